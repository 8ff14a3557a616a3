"""Brings one InferenceService in order: declares it to the mesh and writes its status."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from shoal.controller.conditions import condition
from shoal.controller.deferrable import least_wait, may_wait, passes, proven_by
from shoal.controller.evidence import RETRY_SECONDS, EvidenceGate
from shoal.controller.handover import hand_over
from shoal.controller.kube import ISVC, Document, KubeApi
from shoal.controller.rate_limit import RateLimit
from shoal.controller.reading import ServiceReading, WantedRevision, read, refuse
from shoal.controller.recorder import Recorder
from shoal.controller.rolloutstatus import ROLLED_BACK, happenings
from shoal.controller.runtimestatus import is_explained, with_causes
from shoal.controller.settings import ControllerSettings
from shoal.controller.status import (
    NOT_SERVED,
    DeclaredStatus,
    ServiceAddresses,
    merge_patch,
    status_of,
    status_patch,
)
from shoal.controller.store import DeclarationStore
from shoal.core.types import EndpointView, FailureReason, ModelState, RevisionId
from shoal.mesh.api import MeshApi, NameTakenError, RolloutHistory, RolloutRefusedError

_LOG = logging.getLogger(__name__)
_STATUSES_PER_SECOND = 100.0
_STATUS_BURST = 50
_PASSING_PER_SECOND = 2.0
_PASSING_BURST = 20
"""Statuses that may wait: so many are written at once, and then so many a second."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was made of a document, so that it is read again only when it matters."""

    sign: tuple[object, ...]
    reading: ServiceReading
    again: float | None = None
    """When to look again although nothing changed here: evidence may have been added to a package."""


class IsvcReconciler:
    """InferenceServices of the namespace."""

    def __init__(
        self,
        settings: ControllerSettings,
        store: DeclarationStore,
        mesh: MeshApi,
        kube: KubeApi,
        recorder: Recorder,
        clock: Callable[[], float],
        evidence: EvidenceGate,
        causes: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._store = store
        self._mesh = mesh
        self._kube = kube
        self._recorder = recorder
        self._clock = clock
        self._evidence = evidence
        self._causes = causes
        """Runtime to why no pod of it can take a model."""
        self._known: dict[str, _Known] = {}
        self._written: dict[str, str] = {}
        """Version that a status written by us gave an object whose echo has not come yet."""
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        self._pace = RateLimit(_STATUSES_PER_SECOND, _STATUS_BURST)
        self._passing = RateLimit(_PASSING_PER_SECOND, _PASSING_BURST)
        self._turns: dict[str, float] = {}
        """When a status that may wait is written."""
        self._proven: dict[str, str] = {}
        """The revision that an object was last shown to have loaded."""
        self.write_statuses = False
        """Off until the mesh has all declarations: right after a start it knows too little to say how models stand."""

    def runtimes_of(self, name: str) -> frozenset[str]:
        """The runtimes chosen for the models of an InferenceService."""
        known = self._known.get(name)
        return known.reading.runtimes if known is not None else frozenset()

    def uses(self, runtime: str) -> bool:
        """Whether a runtime was chosen for any InferenceService."""
        return runtime in self._users

    def users_of(self, runtime: str) -> list[str]:
        """The InferenceServices for whose models a runtime was chosen."""
        return list(self._users.get(runtime, ()))

    async def reconcile(self, name: str) -> float | None:
        """Bring one in order. Returns the seconds after which it must be looked at again, if any.

        Raises:
            KubeError: the status could not be written; try again.
        """
        document = self._store.isvc(name)
        if document is None:
            self._remember(name, None)
            self._turns.pop(name, None)
            self._proven.pop(name, None)
            await self._mesh.undeclare(name)
            return None
        declared = await self._declare(name, document)
        waits = await self._write_status(name, document, declared) if self.write_statuses else None
        known = self._known.get(name)
        again = None if known is None or known.again is None else max(0.0, known.again - self._clock())
        return min((pause for pause in (waits, again) if pause is not None), default=None)

    def is_echo(self, name: str, document: Document | None) -> bool:
        """Whether an object is just as the last status was written to it, and is told for the first time since."""
        version = self._written.pop(name, None)
        return version is not None and document is not None and document["metadata"]["resourceVersion"] == version

    def is_waiting(self, name: str) -> bool:
        """Whether an object's status has its turn later, and nothing that the mesh does with it must be told before."""
        if name not in self._turns or self._mesh.rollout(name) is not None:
            return False
        view = self._mesh.endpoint(name)
        return view is not None and passes(view, self._proven.get(name, ""))

    def _remember(self, name: str, known: _Known | None) -> None:
        for runtime in self.runtimes_of(name):
            self._users[runtime].discard(name)
            if not self._users[runtime]:
                del self._users[runtime]
        if known is None:
            self._known.pop(name, None)
            return
        self._known[name] = known
        for runtime in known.reading.runtimes:
            self._users[runtime].add(name)

    async def _declare(self, name: str, document: Document) -> DeclaredStatus:
        metadata = document["metadata"]
        annotations = tuple(sorted((metadata.get("annotations") or {}).items()))
        sign = (metadata.get("uid"), metadata.get("generation"), annotations, self._store.epoch)
        before = self._known.get(name)
        due = before is not None and before.again is not None and before.again <= self._clock()
        strayed = before is not None and self._strayed(name, before.reading)
        if before is not None and before.sign == sign and not due and not strayed:
            return before.reading.declared
        reading = await self._gated(name, read(document, self._store))
        declared, again = reading.declared, None
        if declared.not_ours:
            await self._mesh.undeclare(name)
        elif reading.stable is not None:
            try:
                serving = await hand_over(self._mesh, reading, before.reading if before and not strayed else None)
            except NameTakenError:
                # Not remembered: the name may become free without any change of this object.
                message = f"the name {name!r} is in use by another owner (an alias set through mmesh.ModelMesh)"
                return DeclaredStatus(declared.generation, invalid=message)
            except RolloutRefusedError as error:
                # Not remembered either: it is declared again whenever the endpoint changes, so once that rollout ended.
                if self._mesh.rollout(name) is None:
                    return DeclaredStatus(declared.generation, invalid=str(error))
                return replace(declared, refused=str(error))
            if not serving:  # The canary waits for the model below it, whose change is told of.
                return replace(declared, revision=reading.stable.declaration.revision)
            held = any(_lacks_evidence(wanted) for wanted in reading.wanted)
            again = self._clock() + RETRY_SECONDS if held else None
        elif before is not None:
            # What was declared before its spec became unusable goes on, and so do its runtimes.
            reading = replace(before.reading, declared=declared)
        for wanted in reading.wanted:
            if wanted.chosen is not None and wanted.chosen.warning:
                self._recorder.tell(document, "Warning", "RuntimeMismatch", wanted.chosen.warning)
        self._remember(name, _Known(sign, reading, again))
        return declared

    def _strayed(self, name: str, reading: ServiceReading) -> bool:
        """Whether a client of `mmesh.ModelMesh` removed the declared endpoint, or let it lead elsewhere."""
        declared = [wanted.declaration.revision for wanted in reading.wanted]
        view = self._mesh.endpoint(name)
        strayed = bool(declared) and (view is None or view.target not in declared)
        if strayed:
            _LOG.warning("endpoint %s was changed through mmesh.ModelMesh: declaring its InferenceService again", name)
        return strayed

    async def _gated(self, name: str, reading: ServiceReading) -> ServiceReading:
        """The same with models held back that lack evidence."""
        stable, canary = [await self._judged(name, wanted) for wanted in (reading.stable, reading.canary)]
        return replace(reading, stable=stable, canary=canary)

    async def _judged(self, name: str, wanted: WantedRevision | None) -> WantedRevision | None:
        if wanted is None or not wanted.requires or wanted.declaration.unplaceable is not None:
            return wanted
        if self._admitted(name, wanted.declaration.revision):
            return wanted
        why = await self._evidence.held_back(wanted.source, wanted.requires)
        return wanted if why is None else refuse(wanted, why)

    def _admitted(self, name: str, revision: RevisionId) -> bool:
        """Whether a revision serves, or served before and is kept: evidence is asked for where something new begins."""
        view, rollout = self._mesh.endpoint(name), self._mesh.rollout(name)
        serves = view is not None and view.active == revision
        kept = rollout is not None and revision in rollout.retained
        return (serves or kept) and self._mesh.runtime_of(revision) is not None

    async def _write_status(self, name: str, document: Document, declared: DeclaredStatus) -> float | None:
        """Write the status if it says something else than before; the seconds until its turn if that may wait."""
        view = None if declared.not_ours else self._mesh.endpoint(name)
        if view is not None:
            view = with_causes(view, self._causes)
        old = document.get("status") or {}
        rollout = None if view is None else self._mesh.rollout(name)
        new = status_of(declared, view, self._addresses(), old, self._clock(), rollout)
        patch = merge_patch(old, new)
        if not patch:
            return None
        if pause := self._turn(name, old, new):
            return pause
        await self._pace.turn()
        written = await self._kube.merge(ISVC, name, status_patch(document, patch), "status")
        # The informer will say the same in a moment; until then nothing shall be written over it.
        if self._store.isvc(name) is document:
            self._store.put(ISVC, name, written)
            self._written[name] = written["metadata"]["resourceVersion"]
        self._tell(document, old, new, view)
        if rollout is not None:
            self._tell_rollout(document, old, new, rollout, declared.refused)
        return None

    def _turn(self, name: str, old: Document, new: Document) -> float:
        """Seconds until a status may be written."""
        if shown := proven_by(old):
            self._proven[name] = shown
        if not may_wait(old, new, self._proven.get(name, "")):
            self._turns.pop(name, None)  # what waited for it is told with this
            return 0.0
        now = asyncio.get_running_loop().time()
        if name not in self._turns:
            self._turns[name] = now + max(self._passing.reserve(), least_wait(new))
        pause = self._turns[name] - now
        if pause <= 0:
            del self._turns[name]
        return max(0.0, pause)

    def _addresses(self) -> ServiceAddresses:
        config = self._store.config
        host = f"{config.inference_service_name}.{self._settings.namespace}"
        scheme = "https" if config.tls.secret_name else "http"
        return ServiceAddresses(
            grpc=f"grpc://{host}:{config.inference_service_port}", rest=f"{scheme}://{host}:{config.rest_proxy.port}"
        )

    def _tell(self, document: Document, old: Document, new: Document, view: EndpointView | None) -> None:
        """Events for what changed between two statuses."""
        failure = (new.get("modelStatus") or {}).get("lastFailureInfo")
        before = (old.get("modelStatus") or {}).get("lastFailureInfo") or {}
        # The one passes by itself unless it has a cause; the other is told with its rollout.
        passing = failure and failure["reason"] == FailureReason.RUNTIME_UNHEALTHY.value and not is_explained(failure)
        untold = failure and (passing or failure["reason"] == ROLLED_BACK)
        if failure and not untold and any(failure.get(key) != before.get(key) for key in ("reason", "message")):
            self._recorder.tell(document, "Warning", _event_reason(failure["reason"]), failure["message"])
        ready = condition(new, "Ready")
        if ready.get("reason") == NOT_SERVED and condition(old, "Ready").get("reason") != NOT_SERVED:
            self._recorder.tell(document, "Normal", NOT_SERVED, ready["message"])
        if view is None:
            return
        revision = old.get("modelRevisionName")
        if revision and revision != view.active:
            self._recorder.tell(
                document, "Normal", "RevisionChanged", f"{view.active} serves now instead of {revision}"
            )
        loaded_before = revision == view.active and condition(old, "PredictorReady").get("status") == "True"
        if view.active_model.state is ModelState.LOADED and not loaded_before:
            self._recorder.tell(document, "Normal", "ModelLoaded", f"{view.active} is loaded")

    def _tell_rollout(
        self, document: Document, old: Document, new: Document, rollout: RolloutHistory, refused: str
    ) -> None:
        for found in happenings(old.get("rollout") or {}, new["rollout"], rollout, refused):
            self._recorder.tell(document, found.kind, found.reason, found.message)


def _lacks_evidence(wanted: WantedRevision) -> bool:
    why = wanted.declaration.unplaceable
    return why is not None and why.reason is FailureReason.EVIDENCE_MISSING


def _event_reason(failure: str) -> str:
    return "InvalidSpec" if failure == "InvalidPredictorSpec" else failure
