"""Revisions with fewer copies than required, for want of a place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from shoal.core.types import RevisionId, RuntimeName


class Unmet:
    """Who waits for a place, by runtime. There may be very many, so that they take turns in being looked at."""

    def __init__(self) -> None:
        self._runtime_of: dict[RevisionId, RuntimeName | None] = {}
        self._of: dict[RuntimeName | None, OrderedDict[RevisionId, None]] = {}

    def __contains__(self, revision: RevisionId) -> bool:
        return revision in self._runtime_of

    def __len__(self) -> int:
        return len(self._runtime_of)

    def add(self, revision: RevisionId, runtime: RuntimeName | None) -> None:
        """There is no place for it on the pods of its runtime."""
        if self._runtime_of.get(revision, runtime) != runtime:
            self.discard(revision)
        self._runtime_of[revision] = runtime
        self._of.setdefault(runtime, OrderedDict())[revision] = None

    def discard(self, revision: RevisionId) -> None:
        """It has what it requires, or requires nothing any more."""
        if revision in self._runtime_of:
            runtime = self._runtime_of.pop(revision)
            own = self._of[runtime]
            del own[revision]
            if not own:
                del self._of[runtime]

    def of(self, runtime: RuntimeName) -> tuple[RevisionId, ...]:
        """All that wait for a pod of a runtime."""
        return tuple(self._of.get(runtime, ()))

    def turn(self, most: int) -> Iterator[RevisionId]:
        """Of each runtime up to so many, those first that were not looked at for longest."""
        for own in list(self._of.values()):
            for _ in range(min(most, len(own))):
                if not own:
                    break
                revision = next(iter(own))
                own.move_to_end(revision)
                yield revision
