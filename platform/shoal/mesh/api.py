"""What the controller and the management API ask of the mesh: the seam between declared state and decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from shoal.core.rollout.measure import Window
from shoal.core.rollout.plan import Plan
from shoal.core.rollout.record import Rollout, Verb
from shoal.core.suspicion import Cause
from shoal.core.types import EndpointView, PodId, RevisionId, RuntimeName, Unplaceable
from shoal.mesh.engine.faults import Fault


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """`mmesh.ModelInfo`: what a runtime pod needs to load a model. `key` may hold secrets and is never logged."""

    type: str
    path: str = ""
    key: str = ""

    def __repr__(self) -> str:
        return f"ModelInfo(type={self.type!r}, path={self.path!r})"


@dataclass(frozen=True, slots=True)
class Declaration:
    """An InferenceService as the mesh needs it: a stable name and the one revision it shall serve."""

    name: str
    revision: RevisionId
    info: ModelInfo
    runtime: RuntimeName | None
    unplaceable: Unplaceable | None = None
    min_copies: int = 0
    max_copies: int = 0
    owner: str = "isvc"
    plan: Plan | None = None
    """How to switch to this revision if another serves now. None: at once at matched scale, keeping nothing before."""
    by: str = ""
    """Who declared it, for the history."""
    predictor: str = ""
    """`spec.predictor` as JSON: kept with the history, so that going back can declare it again."""
    stepwise: bool = False
    """Carry the plan out also where the revision served before and is kept; otherwise such a one takes over at once."""


@dataclass(frozen=True, slots=True)
class EndedRollout:
    """An ended rollout, and what is needed to go back to where it started or ended."""

    rollout: Rollout
    predictor: str
    """Of its target; empty when unknown."""


@dataclass(frozen=True, slots=True)
class RolloutHistory:
    """How the newest rollout of an endpoint stands, and those before."""

    current: Rollout
    predictor: str
    active_window: Window
    target_window: Window
    """What was seen since it began, or since the mesh started."""
    retained: tuple[RevisionId, ...]
    """Revisions before the active one that can serve again at once, newest first."""
    past: tuple[EndedRollout, ...]
    """Newest first; at most 20."""
    predictors: Mapping[RevisionId, str] = field(default_factory=dict)
    """`spec.predictor` as JSON of the active revision, the declared one and those retained, where known."""


@dataclass(frozen=True, slots=True)
class PodEndpoint:
    """Where a runtime pod is reached. `http_port` is None where the model server has no HTTP endpoint."""

    id: PodId
    runtime: RuntimeName
    host: str
    management_port: int
    grpc_port: int
    http_port: int | None = None


RuntimeChooser: TypeAlias = Callable[[str], RuntimeName | Unplaceable]
"""Chooses the runtime for a type string of `mmesh.ModelInfo`, such as `mt:sklearn:0|pv:grpc-v2` or `rt:triton-2.x`."""


SampleReader: TypeAlias = Callable[[ModelInfo], Awaitable[Sequence[bytes]]]
"""Reads the sample requests that came with a model, as `ModelInferRequest` messages; none if it has none. Raises
OSError or ValueError where they cannot be read."""


class RolloutRefusedError(Exception):
    """A rollout under way does not let another begin, or cannot do what was asked; the message says why."""


class NameTakenError(Exception):
    """The endpoint's name is used by another owner, for example an alias set through `mmesh.ModelMesh`."""


class MeshApi(Protocol):
    """What the mesh offers to the controller. Everything is called on the mesh's event loop."""

    async def declare(self, declaration: Declaration) -> None:
        """Serve this from now on; durable when it returns. Declaring the same again changes nothing.

        Raises:
            NameTakenError: another owner has this name.
            RolloutRefusedError: a rollout to another revision is under way and its plan does not let itself be
                superseded. Nothing changes.
        """

    def rollout(self, name: str) -> RolloutHistory | None:
        """The newest rollout of an endpoint; None if there never was one."""

    async def steer(self, name: str, verb: Verb, *, rollout: str = "", by: str = "", reason: str = "") -> Rollout:
        """Pause, resume, promote, abort or retry the newest rollout; the rollout afterwards, durable.

        Args:
            rollout: its id, to be sure that no other is meant; empty: whichever is newest.

        Raises:
            RolloutRefusedError: there is none, it is another, or it cannot do that where it stands.
        """

    async def undeclare(self, name: str, owner: str = "isvc") -> None:
        """Serve this no more. Unknown names are fine."""

    def declared(self, owner: str = "isvc") -> frozenset[str]:
        """Names of all endpoints an owner has, those restored after a restart included."""

    def endpoint(self, name: str) -> EndpointView | None:
        """How an endpoint stands now."""

    def runtime_of(self, revision: RevisionId) -> RuntimeName | None:
        """The runtime chosen for a revision."""

    def changes(self) -> AsyncIterator[frozenset[str]]:
        """Names of endpoints whose view changed, collected since the last time."""

    def set_runtimes(self, choose: RuntimeChooser) -> None:
        """How to choose runtimes for models registered by clients, whenever runtimes change."""

    def set_samples(self, read: SampleReader) -> None:
        """How to read the requests new revisions are warmed up with."""

    def pod_found(self, pod: PodEndpoint) -> None:
        """A pod exists at this address (again, or anew); the mesh connects to its adapter and keeps trying."""

    def pod_stopping(self, pod: PodId) -> None:
        """A pod is being deleted: empty it, then release it."""

    def pod_gone(self, pod: PodId) -> None:
        """A pod is no more."""

    def server_exited(self, pod: PodId, cause: Cause, words: str) -> None:
        """A pod's model server ended: how, and its last words."""

    def on_pod(self, listener: Callable[[PodId, str], None]) -> None:
        """Have it told of each pod whenever the mesh can use it (empty) or cannot, and why. May repeat itself."""

    def on_fault(self, listener: Callable[[Fault], None]) -> None:
        """Have every defect of the mesh itself told that shows at run time."""

    def synced(self) -> None:
        """Everything that was declared when the controller started has been handed over."""
