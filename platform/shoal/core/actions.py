"""What the core asks for. A step's actions are carried out in order; `Persist` is finished before the next starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from shoal.core.rollout.plan import Check, WarmUp
from shoal.core.rollout.record import Rollout
from shoal.core.suspicion import Suspicion
from shoal.core.types import EndpointName, PodId, RevisionId, RouteCopy, RouteKey, Ticket


@dataclass(frozen=True, slots=True)
class Persist:
    """Make an endpoint's revisions durable (None: forget it) before anything later in this step is done."""

    name: EndpointName
    active: RevisionId | None
    target: RevisionId | None


@dataclass(frozen=True, slots=True)
class PersistRollout:
    """Make a rollout durable as it is now before anything later in this step is done."""

    rollout: Rollout


@dataclass(frozen=True, slots=True)
class PersistSuspicion:
    """Make durable what a revision is charged with (None: nothing any more). Nothing waits for it."""

    revision: RevisionId
    suspicion: Suspicion | None


@dataclass(frozen=True, slots=True)
class WarmUpCopies:
    """Send sample requests to these copies of a rollout's target. Answered by `WarmedUp`, also if there are none."""

    endpoint: EndpointName
    rollout: str
    revision: RevisionId
    pods: tuple[PodId, ...]
    warm_up: WarmUp


@dataclass(frozen=True, slots=True)
class AskCheck:
    """Ask a webhook or Prometheus. Answered by `CheckAnswered` within the check's timeout."""

    endpoint: EndpointName
    rollout: str
    active: RevisionId
    target: RevisionId
    check: Check


@dataclass(frozen=True, slots=True)
class Load:
    """Load a revision on a pod. Answered by `LoadSucceeded` or `LoadFailed`."""

    pod: PodId
    revision: RevisionId


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Fetch the files of a revision to a pod where its load waits for space. Nothing answers it.

    The load follows, or a `CancelLoad`.
    """

    pod: PodId
    revision: RevisionId


@dataclass(frozen=True, slots=True)
class CancelLoad:
    """Give up a load under way; an `Unload` follows in the same step, as `mmesh.ModelRuntime` asks.

    Of a load that was not begun: give up its `Prefetch`. No `Unload` follows.
    """

    pod: PodId
    revision: RevisionId


@dataclass(frozen=True, slots=True)
class PublishRoutes:
    """Make the gateways route so. A key that maps to nothing (empty) has no copies left.

    `version` grows with every publication; answered by `RoutesAcknowledged`.
    """

    version: int
    changes: Mapping[RouteKey, tuple[RouteCopy, ...]]


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait until nothing is in flight to a copy no route names any more. Answered by `Drained`."""

    pod: PodId
    revision: RevisionId


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload a revision from a pod. Answered by `UnloadSucceeded` or `UnloadFailed`.

    Asked again after a failure without another `Drain`: no route has led there since the first one.
    """

    pod: PodId
    revision: RevisionId


@dataclass(frozen=True, slots=True)
class Forward:
    """A waiting request may go to this copy."""

    pod: PodId
    revision: RevisionId


class RejectCode(Enum):
    """How a request that cannot be served is answered, by gRPC status name."""

    NOT_FOUND = "NOT_FOUND"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    LOST = "UNAVAILABLE: the server was lost"
    """Answered as UNAVAILABLE. It was under way at a model server that was lost, and may be why."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A waiting request cannot be served."""

    code: RejectCode
    message: str
    retry_after: float | None = None
    """Seconds after which it may be served; None: nothing says that it will be."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one `RequestWaiting`."""

    ticket: Ticket
    result: Forward | Reject


@dataclass(frozen=True, slots=True)
class PodDrained:
    """Nothing leads to a draining pod any more; it may stop."""

    pod: PodId


@dataclass(frozen=True, slots=True)
class Changed:
    """The views of these endpoints and revisions may have changed: report their status."""

    endpoints: frozenset[EndpointName]
    revisions: frozenset[RevisionId]


Action: TypeAlias = (
    Persist
    | PersistRollout
    | PersistSuspicion
    | WarmUpCopies
    | AskCheck
    | Load
    | Prefetch
    | CancelLoad
    | PublishRoutes
    | Drain
    | Unload
    | Answer
    | PodDrained
    | Changed
)
