"""What the core is told. Every event is handed to `Core.handle` with the time it happened at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

from shoal.core.rollout.measure import Observation
from shoal.core.rollout.plan import Plan
from shoal.core.rollout.record import Rollout, Verb
from shoal.core.suspicion import Cause, Suspect, Suspicion
from shoal.core.types import (
    EndpointName,
    LoadedCopy,
    PodId,
    PodSpec,
    RevisionId,
    RevisionSpec,
    RouteKey,
    RuntimeName,
    Ticket,
)


@dataclass(frozen=True, slots=True)
class PodReported:
    """A pod's adapter answers, for the first time or anew, and says what is loaded.

    `loaded` is the whole truth at that moment, save for loads and unloads this core has under way there.
    `incarnation` changes when the model server was started anew: then everything of before is gone, also what was under
    way.
    """

    pod: PodSpec
    loaded: tuple[LoadedCopy, ...] = ()
    incarnation: str = ""


@dataclass(frozen=True, slots=True)
class PodLeft:
    """A pod is gone, or its model server is: nothing on it answers."""

    pod: PodId


@dataclass(frozen=True, slots=True)
class PodPressed:
    """How short of processors a pod's machine is: the share of time in which something waited for one, from 0 to 1."""

    pod: PodId
    cpu_pressure: float


@dataclass(frozen=True, slots=True)
class PodDraining:
    """A pod will be stopped: move what is in use elsewhere first. Answered by `PodDrained`.

    `restart`: only its model server will be started anew. The pod is used again once it reports that.
    """

    pod: PodId
    restart: bool = False


@dataclass(frozen=True, slots=True)
class ServerLost:
    """A pod's model server died, or hung so that it must be given up (`hung`). Told before anything that follows from
    it, such as `PodLeft` or `LoadFailed`, so that no suspect is loaded elsewhere meanwhile."""

    pod: PodId
    runtime: RuntimeName
    suspects: tuple[Suspect, ...]
    """What it was busy with at that moment."""
    message: str = ""
    hung: bool = False


@dataclass(frozen=True, slots=True)
class ServerExited:
    """Whoever runs a pod's containers says how its model server ended. May come before or after `ServerLost`."""

    pod: PodId
    cause: Cause
    words: str = ""
    """Its exit code and last words, for people."""


@dataclass(frozen=True, slots=True)
class SuspicionRestored:
    """What a declared revision was charged with before a restart of the mesh."""

    revision: RevisionId
    suspicion: Suspicion


@dataclass(frozen=True, slots=True)
class Released:
    """Somebody has reason to think that a quarantined revision does no harm any more."""

    revision: RevisionId


@dataclass(frozen=True, slots=True)
class ModelDeclared:
    """A revision exists, or its spec changed. `last_used` places a new one in the order of eviction."""

    model: RevisionSpec
    last_used: float = 0.0
    load: bool = False
    """Load it now if that evicts nothing used more recently; otherwise on request."""


@dataclass(frozen=True, slots=True)
class ModelRemoved:
    """A revision shall be served no more: its copies are unloaded, its waiting requests answered NOT_FOUND."""

    revision: RevisionId


@dataclass(frozen=True, slots=True)
class EndpointDeclared:
    """An endpoint shall lead to `target`, which is declared already.

    `active` is only given when an endpoint is restored after a restart: the revision that served before.
    `force` switches at once, ready or not.
    """

    name: EndpointName
    target: RevisionId
    active: RevisionId | None = None
    force: bool = False
    plan: Plan | None = None
    """How it shall switch, if it leads elsewhere. None: as soon as copies match, and no record is kept of it."""
    rollout: str = ""
    """The id of the rollout that begins if it leads elsewhere, or again to what was rolled back; with a plan only."""
    by: str = ""
    """Who or what asks for it, for people."""
    resume: Rollout | None = None
    """With `active` only: the rollout that was under way before the restart, or the last one."""


@dataclass(frozen=True, slots=True)
class EndpointRemoved:
    """An endpoint is no more. Its revisions stay until `ModelRemoved`."""

    name: EndpointName


@dataclass(frozen=True, slots=True)
class RolloutCommanded:
    """Someone steers a rollout. What is not possible where it stands is ignored; ask `commands.refusal` before."""

    endpoint: EndpointName
    rollout: str
    verb: Verb
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TrafficObserved:
    """What the active revision and the target of an endpoint in a rollout answered since the last report."""

    endpoint: EndpointName
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """The answer to `WarmUpCopies`. `failure` says what went wrong, if anything."""

    endpoint: EndpointName
    rollout: str
    failure: str = ""


@dataclass(frozen=True, slots=True)
class CheckAnswered:
    """The answer to `AskCheck`. `good` is None when nobody answered, which counts neither way."""

    endpoint: EndpointName
    rollout: str
    check: str
    good: bool | None
    value: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RequestWaiting:
    """A request has no route and waits. Answered by exactly one `Answer`, unless abandoned first."""

    ticket: Ticket
    key: RouteKey
    exclude: frozenset[PodId] = field(default=frozenset())
    """Pods this request was forwarded to already, in vain."""
    tried: bool = False
    """It was under way at a copy already, whose server went away before it answered."""
    patience: float = math.inf
    """Seconds after which it gives up."""


@dataclass(frozen=True, slots=True)
class RequestAbandoned:
    """The client left or its deadline passed. The load goes on."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class EnsureLoaded:
    """Load a revision although no request waits for it. `last_used` 0 means now; it never moves backwards."""

    revision: RevisionId
    last_used: float = 0.0
    retry: bool = False
    """Forget that it failed to load: whoever asks has reason to think that it loads now."""


@dataclass(frozen=True, slots=True)
class UnloadRequested:
    """Evict every copy of a revision now. It stays declared and is loaded again when asked for."""

    revision: RevisionId


@dataclass(frozen=True, slots=True)
class RevisionUsage:
    """Use of one revision since the last report, over all pods."""

    revision: RevisionId
    requests: int
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class UsageReported:
    """What the gateways counted in `interval` seconds. Only revisions that were used are named."""

    interval: float
    usage: tuple[RevisionUsage, ...]


@dataclass(frozen=True, slots=True)
class LoadSucceeded:
    """The adapter answered a load."""

    pod: PodId
    revision: RevisionId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The adapter refused or failed a load, or could not be reached, or the load timed out."""

    pod: PodId
    revision: RevisionId
    message: str
    counts: bool = True
    """False when the pod, not the model, is to blame: not remembered as a failure of the model."""


@dataclass(frozen=True, slots=True)
class UnloadSucceeded:
    """The adapter answered an unload: the bytes are free."""

    pod: PodId
    revision: RevisionId


@dataclass(frozen=True, slots=True)
class UnloadFailed:
    """An unload failed; the core asks again later and counts the bytes as used until then."""

    pod: PodId
    revision: RevisionId
    message: str


@dataclass(frozen=True, slots=True)
class SizeMeasured:
    """A loaded copy turned out to use another number of bytes."""

    pod: PodId
    revision: RevisionId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CopyMissing:
    """A pod answered that it does not have a copy we routed to: it is gone from there."""

    pod: PodId
    revision: RevisionId


@dataclass(frozen=True, slots=True)
class RoutesAcknowledged:
    """Every connected gateway runs with routes of at least `version`."""

    version: int


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is in flight to a withdrawn copy any more (answer to `Drain`)."""

    pod: PodId
    revision: RevisionId


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed. The core acts on everything that is due."""


Event: TypeAlias = (
    PodReported
    | PodPressed
    | PodLeft
    | PodDraining
    | ServerLost
    | ServerExited
    | SuspicionRestored
    | Released
    | ModelDeclared
    | ModelRemoved
    | EndpointDeclared
    | EndpointRemoved
    | RolloutCommanded
    | TrafficObserved
    | WarmedUp
    | CheckAnswered
    | RequestWaiting
    | RequestAbandoned
    | EnsureLoaded
    | UnloadRequested
    | UsageReported
    | LoadSucceeded
    | LoadFailed
    | UnloadSucceeded
    | UnloadFailed
    | SizeMeasured
    | CopyMissing
    | RoutesAcknowledged
    | Drained
    | Tick
)
