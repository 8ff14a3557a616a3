"""The records the core keeps of revisions and of their copies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from shoal.core.types import CopyState, CopyView, PodId, RevisionId, RevisionSpec

REQUIRED_PATIENCE = 1.0
"""Seconds by which requests that come later go before a load that is required although nobody waits for it."""

CROWD_CREDIT = 0.1
"""Seconds by which each further request that waits for the same load moves it forward ..."""
MOST_CROWD = 21
"""... counting so many requests: whoever waits longer than all of them together may gain is served first."""


class Urgency(IntEnum):
    """Why a load is wanted; lower goes first."""

    WAITING = 0
    """A request waits for it: it may evict anything that is not protected."""
    REQUIRED = 1
    """Declared copies (`min_copies`, an endpoint's target): may evict anything that is not protected."""
    WISHED = 2
    """It would be good to have: it evicts nothing used more recently."""


@dataclass(slots=True)
class Model:
    """One declared revision. Kept small: most of a million are idle, and what only busy ones need is elsewhere."""

    spec: RevisionSpec
    last_used: float
    learned_bytes: int = 0
    """What a copy really took, once one was loaded. 0: not known yet."""

    @property
    def id(self) -> RevisionId:
        """The revision's id."""
        return self.spec.id

    def expected_bytes(self, default: int) -> int:
        """How many bytes a further copy will take, as far as is known."""
        return max(1, self.learned_bytes or self.spec.predicted_bytes or default)

    @property
    def most_copies(self) -> int | None:
        """The upper limit of copies, None without one. A lower limit above it wins."""
        if self.spec.max_copies <= 0:
            return None
        return max(self.spec.max_copies, self.spec.min_copies)


@dataclass(slots=True, eq=False)
class Copy:
    """One revision on one pod. All changes of state go through `State.move`, which keeps the indexes."""

    revision: RevisionId
    pod: PodId
    size: int
    state: CopyState = CopyState.ABSENT
    since: float = 0.0
    last_used: float = 0.0
    urgency: Urgency = Urgency.WISHED
    asked: float = 0.0
    """Since when the oldest request waits for it."""
    crowd: int = 0
    """How many requests wait for it, as far as they count."""
    order: int = 0
    """Breaks ties in the load queue by age."""
    error: str | None = None
    """Why its load failed."""
    pinned: bool = False
    """While it is loaded: its revision has no more copies than are to be kept, so that it is never evicted."""
    replacing: bool = False
    """A replacement elsewhere was sought because the pod is draining."""

    @property
    def queue_key(self) -> tuple[bool, float, int]:
        """Place in the load queue: what is needed in the order it was asked for, then wishes by last use, newest first.

        What many requests wait for goes first, within bounds, for that ends the most waiting; none starves.

        What no request waits for lets those go first that come soon after it, but not all that ever come: otherwise
        steady cold traffic would hold up the update of a model for ever.
        """
        wished = self.urgency is Urgency.WISHED
        if self.urgency is Urgency.WAITING:
            rank = self.asked - CROWD_CREDIT * max(0, self.crowd - 1)
        else:
            rank = -self.last_used if wished else self.since + REQUIRED_PATIENCE
        return (wished, rank, self.order)

    @property
    def lru_key(self) -> tuple[float, RevisionId]:
        """Place in the order of eviction, coldest first."""
        return (self.last_used, self.revision)

    def view(self) -> CopyView:
        """What others may see of it."""
        return CopyView(self.pod, self.revision, self.state, self.size, self.since, self.last_used, error=self.error)
