"""Views of endpoints for tests of the controller, and a mesh that remembers what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from shoal.core.rollout.measure import Window
from shoal.core.rollout.plan import Pause, Plan, SetWeight, Strategy
from shoal.core.rollout.record import Phase, Rollout, TimelineEvent, Verb
from shoal.core.suspicion import Cause
from shoal.core.types import (
    CopyState,
    CopyView,
    EndpointName,
    EndpointView,
    Failure,
    FailureReason,
    ModelState,
    ModelView,
    PodId,
    RevisionId,
    RuntimeName,
    Transition,
)
from shoal.mesh.api import (
    Declaration,
    EndedRollout,
    NameTakenError,
    PodEndpoint,
    RolloutHistory,
    RolloutRefusedError,
    RuntimeChooser,
    SampleReader,
)
from shoal.mesh.engine.faults import Fault


def model_view(revision: str, state: ModelState, *, copies: int = 0, failure: Failure | None = None) -> ModelView:
    views = [
        CopyView(PodId(f"p{number}"), RevisionId(revision), CopyState.LOADED, 1, 0.0, 0.0) for number in range(copies)
    ]
    if failure is not None:
        views.append(CopyView(PodId("pf"), RevisionId(revision), CopyState.FAILED, 0, 0.0, 0.0, failure.message))
    return ModelView(RevisionId(revision), state, tuple(views), (failure,) if failure else (), 0.0)


def endpoint_view(
    active: ModelView, target: ModelView | None = None, transition: Transition | None = None
) -> EndpointView:
    target = target or active
    if transition is None:
        transition = Transition.UP_TO_DATE if target is active else Transition.IN_PROGRESS
    failure = target.failures[0] if target.failures and target.state is not ModelState.LOADED else None
    return EndpointView(EndpointName("m"), active.id, target.id, transition, active, target, failure)


def load_failure(message: str = "boom", at: float = 1000.0, reason: str = "ModelLoadFailed") -> Failure:
    return Failure(FailureReason(reason), message, at, PodId("pf"))


CANARY = Plan(Strategy.CANARY, (SetWeight(100), Pause(30.0), SetWeight(500)))


def rollout_status(
    phase: Phase = Phase.PROGRESSING,
    *,
    active: str = "m__isvc-1",
    target: str = "m__isvc-2",
    plan: Plan = CANARY,
    past: tuple[EndedRollout, ...] = (),
    retained: tuple[str, ...] = (),
    **fields: object,
) -> RolloutHistory:
    """A rollout of endpoint `m` as the mesh would tell of it."""
    values = {"id": "m-1", "started": 1000.0, "timeline": (TimelineEvent(1000.0, "started"),), "phase": phase} | fields
    values.setdefault("ended", 1100.0 if phase in (Phase.SUCCEEDED, Phase.ROLLED_BACK) else None)
    rollout = Rollout(
        endpoint=EndpointName("m"),
        active=RevisionId(active),
        target=RevisionId(target),
        plan=plan,
        **values,
    )
    return RolloutHistory(rollout, "", Window(), Window(), tuple(map(RevisionId, retained)), past)


class RecordingMesh:
    """`MeshApi` that keeps what it is told; a test says how endpoints stand."""

    def __init__(self) -> None:
        self.declarations: dict[str, Declaration] = {}
        self.calls: list[str] = []
        self.views: dict[str, EndpointView] = {}
        self.pods: dict[str, PodEndpoint] = {}
        self.taken: set[str] = set()
        self.rollouts: dict[str, RolloutHistory] = {}
        self.refusal = ""
        """Why no other rollout may begin; empty: any may."""
        self.chooser: RuntimeChooser | None = None
        self.is_synced = asyncio.Event()
        self.fault_listeners: list[Callable[[Fault], None]] = []
        self.pod_listeners: list[Callable[[PodId, str], None]] = []
        self._changed: asyncio.Queue[frozenset[str]] = asyncio.Queue()

    async def declare(self, declaration: Declaration) -> None:
        if declaration.name in self.taken:
            raise NameTakenError(declaration.name)
        known = self.declarations.get(declaration.name)
        if self.refusal and known is not None and known.revision != declaration.revision:
            raise RolloutRefusedError(self.refusal)
        self.calls.append(f"declare {declaration.name}")
        self.declarations[declaration.name] = declaration
        if declaration.name not in self.views:
            self.show(declaration.name, endpoint_view(model_view(declaration.revision, ModelState.PENDING)))

    async def undeclare(self, name: str, owner: str = "isvc") -> None:
        if self.declarations.pop(name, None) is not None:
            self.calls.append(f"undeclare {name}")
        self.views.pop(name, None)

    def declared(self, owner: str = "isvc") -> frozenset[str]:
        return frozenset(name for name, found in self.declarations.items() if found.owner == owner)

    def endpoint(self, name: str) -> EndpointView | None:
        return self.views.get(name)

    def rollout(self, name: str) -> RolloutHistory | None:
        return self.rollouts.get(name)

    async def steer(self, name: str, verb: Verb, *, rollout: str = "", by: str = "", reason: str = "") -> Rollout:
        self.calls.append(f"{verb.value} {rollout}: {reason}")
        return self.rollouts[name].current

    def runtime_of(self, revision: RevisionId) -> RuntimeName | None:
        found = [declaration for declaration in self.declarations.values() if declaration.revision == revision]
        return found[0].runtime if found else None

    async def changes(self) -> AsyncIterator[frozenset[str]]:
        while True:
            yield await self._changed.get()

    def show(self, name: str, view: EndpointView) -> None:
        """The endpoint stands so from now on."""
        self.views[name] = view
        self._changed.put_nowait(frozenset({name}))

    def lose(self, name: str) -> None:
        """The endpoint is gone, whoever removed it."""
        del self.views[name]
        self._changed.put_nowait(frozenset({name}))

    def set_samples(self, read: SampleReader) -> None:
        self.samples = read

    def set_runtimes(self, choose: RuntimeChooser) -> None:
        self.chooser = choose

    def pod_found(self, pod: PodEndpoint) -> None:
        self.calls.append(f"found {pod.id}")
        self.pods[pod.id] = pod

    def pod_stopping(self, pod: PodId) -> None:
        self.calls.append(f"stopping {pod}")

    def pod_gone(self, pod: PodId) -> None:
        self.calls.append(f"gone {pod}")
        self.pods.pop(pod, None)

    def server_exited(self, pod: PodId, cause: Cause, words: str) -> None:
        self.calls.append(f"exited {pod}: {cause.value}: {words}")

    def on_pod(self, listener: Callable[[PodId, str], None]) -> None:
        self.pod_listeners.append(listener)

    def on_fault(self, listener: Callable[[Fault], None]) -> None:
        self.fault_listeners.append(listener)

    def synced(self) -> None:
        self.calls.append("synced")
        self.is_synced.set()
