"""The nouns of the core: identifiers, what it is told about models and pods, and what it lets others see.

Plain frozen values. Times are seconds since 1970 as `float`, sizes are bytes, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

RevisionId = NewType("RevisionId", str)
"""A concrete model: one immutable version, such as `sklearn-mnist__isvc-3c10c62d34` (ModelMesh: model id)."""
EndpointName = NewType("EndpointName", str)
"""A stable name users send requests to: an InferenceService, or an alias set by `setVModel` (ModelMesh: vmodel id)."""
PodId = NewType("PodId", str)
RuntimeName = NewType("RuntimeName", str)
Ticket = NewType("Ticket", int)
"""One waiting request, named by whoever asks."""


NO_POD = PodId("")
NO_REVISION = RevisionId("")


class CopyState(Enum):
    """Where one copy (a revision on a pod) is in its life. `ABSENT` copies are not stored."""

    ABSENT = "Absent"
    QUEUED = "Queued"
    LOADING = "Loading"
    LOADED = "Loaded"
    WITHDRAWING = "Withdrawing"
    DRAINING = "Draining"
    UNLOADING = "Unloading"
    FAILED = "Failed"


class ModelState(Enum):
    """State of a revision as a whole, with the words of an InferenceService's status (`serving.kserve.io`)."""

    PENDING = "Pending"
    STANDBY = "Standby"
    LOADING = "Loading"
    LOADED = "Loaded"
    FAILED_TO_LOAD = "FailedToLoad"


class Transition(Enum):
    """How an endpoint's change of revision stands (`status.modelStatus.transitionStatus`)."""

    UP_TO_DATE = "UpToDate"
    IN_PROGRESS = "InProgress"
    BLOCKED_BY_FAILED_LOAD = "BlockedByFailedLoad"


class FailureReason(Enum):
    """Why a revision does not load (`status.modelStatus.lastFailureInfo.reason`)."""

    MODEL_LOAD_FAILED = "ModelLoadFailed"
    RUNTIME_UNHEALTHY = "RuntimeUnhealthy"
    NO_SUPPORTING_RUNTIME = "NoSupportingRuntime"
    EVIDENCE_MISSING = "EvidenceMissing"
    RUNTIME_NOT_RECOGNIZED = "RuntimeNotRecognized"
    SERVER_LOST = "ModelServerLost"
    """A model server was lost while it was busy with it. This and the next are no words of upstream's."""
    QUARANTINED = "ModelQuarantined"
    """That happened again, so it is not loaded any more."""


@dataclass(frozen=True, slots=True)
class Unplaceable:
    """Why no runtime can serve a model: shown in status and answered to requests until the model is declared anew."""

    reason: FailureReason
    message: str


@dataclass(frozen=True, slots=True)
class RevisionSpec:
    """What the core needs to know of a revision. Type, path and key stay with the mesh."""

    id: RevisionId
    runtime: RuntimeName | None
    """The runtime chosen for it; None when `unplaceable` says why there is none."""
    unplaceable: Unplaceable | None = None
    predicted_bytes: int = 0
    """0: unknown, count with the pod's default model size."""
    min_copies: int = 0
    """Copies that are always kept loaded. 0: the model may be evicted wholly and is loaded again on request."""
    max_copies: int = 0
    """0: no limit."""


@dataclass(frozen=True, slots=True)
class LoadedCopy:
    """One model a pod reports as loaded."""

    revision: RevisionId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PodSpec:
    """A runtime pod whose adapter answers."""

    id: PodId
    runtime: RuntimeName
    capacity_bytes: int
    load_concurrency: int = 1
    default_model_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class RouteCopy:
    """One place a route leads to. `weight` divides requests between revisions, not between pods of one revision.

    With neither pod nor revision it is the activator's share: requests that are shadowed.
    """

    pod: PodId
    revision: RevisionId
    weight: int = 1
    watched: bool = False
    """A rollout wants to know how long this copy takes to answer, and how."""
    shielded: bool = False
    """Server errors of this copy are not passed on: the activator has the request answered by the active revision."""
    sticky: bool = False
    """Requests with the same `x-shoal-sticky` header go to the same copy of the whole route."""


@dataclass(frozen=True, slots=True)
class RouteKey:
    """What a request names: an endpoint (`mm-vmodel-id`, path or message) or a revision (`mm-model-id`)."""

    name: str
    is_revision: bool = False
    canary: bool = False
    """Of an endpoint: the revision its rollout leads to, whatever weight that has (header `x-shoal-canary`)."""


# --- what the core shows --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """The newest failure of a revision."""

    reason: FailureReason
    message: str
    at: float
    pod: PodId | None = None


@dataclass(frozen=True, slots=True)
class CopyView:
    """One copy, for status and `get copies`."""

    pod: PodId
    revision: RevisionId
    state: CopyState
    size_bytes: int
    since: float
    last_used: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ModelView:
    """One revision, for status."""

    id: RevisionId
    state: ModelState
    copies: tuple[CopyView, ...]
    """Newest first; failed ones are among them until their failure expires."""
    failures: tuple[Failure, ...]
    """Newest first."""
    last_used: float
    runtime: RuntimeName | None = None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint, for status."""

    name: EndpointName
    active: RevisionId
    target: RevisionId
    """Equal to `active` unless a change is under way."""
    transition: Transition
    """`IN_PROGRESS` until every gateway follows a change, which is a moment after `active` and `target` are equal."""
    active_model: ModelView
    target_model: ModelView
    failure: Failure | None
    """Of the target; None once it is loaded."""


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod, for `get pods`, `top` and metrics."""

    spec: PodSpec
    used_bytes: int
    """Loaded, loading and unloading."""
    copies: int
    loading: int
    queued: int
    oldest_use: float | None
    """When its least recently used loaded copy was last used; None without one."""
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one candidate was not chosen."""

    pod: PodId
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The record of one decision, for `why`."""

    at: float
    what: str
    """Such as `load`, `evict`, `second copy`, `flip`."""
    revision: RevisionId
    chosen: PodId | None
    because: str
    rejected: tuple[Rejection, ...] = field(default=())
