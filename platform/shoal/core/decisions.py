"""What was decided and why, kept within bounds, so that `shoal why MODEL` has an answer."""

from __future__ import annotations

from collections import deque

from shoal.core.types import Decision, RevisionId


class DecisionLog:
    """The newest decisions of each revision, and a bound over all."""

    def __init__(self, per_revision: int, total: int) -> None:
        self._per_revision = per_revision
        self._total = total
        self._made = 0
        self._of: dict[RevisionId, deque[tuple[int, Decision]]] = {}
        self._order: deque[tuple[int, RevisionId]] = deque()

    def add(self, decision: Decision) -> None:
        """Remember a decision, forgetting the oldest beyond the bounds."""
        self._made += 1
        own = self._of.setdefault(decision.revision, deque(maxlen=self._per_revision))
        own.append((self._made, decision))
        self._order.append((self._made, decision.revision))
        if len(self._order) > self._total:
            self._forget(*self._order.popleft())

    def _forget(self, number: int, revision: RevisionId) -> None:
        own = self._of.get(revision)
        if own and own[0][0] == number:  # otherwise it fell off its own revision's end before
            own.popleft()
            if not own:
                del self._of[revision]

    def why(self, revision: RevisionId) -> tuple[Decision, ...]:
        """Decisions about a revision, oldest first."""
        return tuple(decision for _, decision in self._of.get(revision, ()))
