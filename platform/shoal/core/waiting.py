"""The requests that wait for a copy, by the revision that will answer them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from shoal.core.types import PodId, RevisionId, RouteKey, Ticket


@dataclass(frozen=True, slots=True)
class Waiter:
    """One waiting request."""

    ticket: Ticket
    key: RouteKey
    exclude: frozenset[PodId]
    since: float
    tried: bool = False
    """It was under way at a copy already, whose server went away before it answered."""
    until: float = math.inf
    """When it gives up."""


class WaitingRoom:
    """Waiting requests in the order they came, each waiting for one revision."""

    def __init__(self) -> None:
        self._revision_of: dict[Ticket, RevisionId] = {}
        self._of: dict[RevisionId, dict[Ticket, Waiter]] = {}
        self._arrived: dict[RevisionId, dict[Ticket, Waiter]] = {}

    def __len__(self) -> int:
        return len(self._revision_of)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._revision_of

    def add(self, revision: RevisionId, waiter: Waiter) -> None:
        """A request starts to wait for a revision."""
        self._add(revision, waiter)
        self._arrived.setdefault(revision, {})[waiter.ticket] = waiter

    def _add(self, revision: RevisionId, waiter: Waiter) -> None:
        self._revision_of[waiter.ticket] = revision
        self._of.setdefault(revision, {})[waiter.ticket] = waiter

    def take_arrived(self, revision: RevisionId) -> tuple[Waiter, ...]:
        """Who came to wait for a revision since this was last called, and still does."""
        return tuple(self._arrived.pop(revision, {}).values())

    def remove(self, ticket: Ticket) -> RevisionId | None:
        """A request waits no more: the revision it waited for, None if it did not wait."""
        revision = self._revision_of.pop(ticket, None)
        if revision is not None:
            own = self._of[revision]
            del own[ticket]
            if not own:
                del self._of[revision]
            if (arrived := self._arrived.get(revision)) is not None:
                arrived.pop(ticket, None)
                if not arrived:
                    del self._arrived[revision]
        return revision

    def of(self, revision: RevisionId) -> tuple[Waiter, ...]:
        """Who waits for a revision."""
        return tuple(self._of.get(revision, {}).values())

    def count(self, revision: RevisionId) -> int:
        """How many wait for a revision."""
        return len(self._of.get(revision, ()))

    def first_since(self, revision: RevisionId) -> float:
        """Since when the oldest request waits for a revision (someone must)."""
        return next(iter(self._of[revision].values())).since

    def move(self, waiters: Iterable[Waiter], revision: RevisionId) -> None:
        """Let requests wait for another revision, because their endpoint leads there now."""
        for waiter in waiters:
            self.remove(waiter.ticket)
            self._add(revision, waiter)

    def revisions(self) -> tuple[RevisionId, ...]:
        """Revisions that someone waits for."""
        return tuple(self._of)
