"""Brings one InferenceService in order: declares it to the mesh and writes its status."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from shoal.controller.kube import ISVC, Document, KubeApi
from shoal.controller.pace import Pace
from shoal.controller.recorder import Recorder
from shoal.controller.settings import ControllerSettings
from shoal.controller.status import NOT_SERVED, Addresses, Declared, condition, merge_patch, status_of
from shoal.controller.store import Store
from shoal.core.types import EndpointView, FailureReason, ModelState, RevisionId, RuntimeName, Unplaceable
from shoal.mesh.api import Declaration, MeshApi, ModelInfo, NameTakenError
from shoal.resources import inferenceservice
from shoal.resources.choose import Chosen, requirements_of
from shoal.resources.problems import InvalidManifest
from shoal.resources.revision import model_key, revision_id, type_string

_LOG = logging.getLogger(__name__)
_STATUSES_PER_SECOND = 100.0
_STATUS_BURST = 50


@dataclass(frozen=True, slots=True)
class _Known:
    """What was made of a document, so that it is read again only when it matters."""

    sign: tuple[object, ...]
    declared: Declared
    declaration: Declaration | None


class IsvcReconciler:
    """InferenceServices of the namespace."""

    def __init__(
        self,
        settings: ControllerSettings,
        store: Store,
        mesh: MeshApi,
        kube: KubeApi,
        recorder: Recorder,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._mesh = mesh
        self._kube = kube
        self._recorder = recorder
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._uses: Counter[str] = Counter()
        self._pace = Pace(_STATUSES_PER_SECOND, _STATUS_BURST)
        self.write_statuses = False
        """Off until the mesh has all declarations: right after a start it knows too little to say how models stand."""

    def runtime_of(self, name: str) -> str | None:
        """The runtime chosen for an InferenceService."""
        known = self._known.get(name)
        return known.declared.chosen.runtime if known is not None and known.declared.chosen is not None else None

    def uses(self, runtime: str) -> bool:
        """Whether a runtime was chosen for any InferenceService."""
        return self._uses[runtime] > 0

    async def reconcile(self, name: str) -> None:
        """Bring one in order.

        Raises:
            KubeError: the status could not be written; try again.
        """
        document = self._store.isvc(name)
        if document is None:
            self._remember(name, None)
            await self._mesh.undeclare(name)
            return
        declared = await self._declare(name, document)
        if self.write_statuses:
            await self._write_status(name, document, declared)

    def _remember(self, name: str, known: _Known | None) -> None:
        if (runtime := self.runtime_of(name)) is not None:
            self._uses[runtime] -= 1
        if known is None:
            self._known.pop(name, None)
            return
        self._known[name] = known
        if known.declared.chosen is not None:
            self._uses[known.declared.chosen.runtime] += 1

    async def _declare(self, name: str, document: Document) -> Declared:
        metadata = document["metadata"]
        annotations = tuple(sorted((metadata.get("annotations") or {}).items()))
        sign = (metadata.get("uid"), metadata.get("generation"), annotations, self._store.epoch)
        before = self._known.get(name)
        if before is not None and before.sign == sign:
            return before.declared
        declared, declaration = self._read(document)
        if declared.not_ours:
            await self._mesh.undeclare(name)
        elif declaration is not None and (before is None or before.declaration != declaration):
            try:
                await self._mesh.declare(declaration)
            except NameTakenError:
                # Not remembered: the name may become free without any change of this object.
                message = f"the name {name!r} is in use by another owner (an alias set through mmesh.ModelMesh)"
                return Declared(declared.generation, invalid=message)
        if declaration is None and before is not None:
            declaration = before.declaration
        self._remember(name, _Known(sign, declared, declaration))
        return declared

    def _read(self, document: Document) -> tuple[Declared, Declaration | None]:
        generation = int(document["metadata"].get("generation") or 0)
        try:
            service = inferenceservice.shape(document)
            if not service.is_ours:
                return Declared(generation, not_ours=inferenceservice.why_not_ours(service)), None
            service, model = inferenceservice.parse(document)
        except InvalidManifest as error:
            return Declared(generation, invalid="; ".join(str(problem) for problem in error.problems)), None
        found = self._store.choose(requirements_of(model))
        chosen = found if isinstance(found, Chosen) else None
        revision = RevisionId(revision_id(service.name, model))
        least, most = service.copies
        declaration = Declaration(
            name=service.name,
            revision=revision,
            info=ModelInfo(type_string(model), model.path, model_key(model)),
            runtime=RuntimeName(chosen.runtime) if chosen else None,
            unplaceable=None if isinstance(found, Chosen) else Unplaceable(FailureReason(found.reason), found.message),
            min_copies=least,
            max_copies=most,
        )
        return Declared(generation, revision=revision, chosen=chosen), declaration

    async def _write_status(self, name: str, document: Document, declared: Declared) -> None:
        view = None if declared.not_ours else self._mesh.endpoint(name)
        old = document.get("status") or {}
        new = status_of(declared, view, self._addresses(), old, self._clock())
        patch = merge_patch(old, new)
        if not patch:
            return
        body: Document = {"status": patch}
        if version := document["metadata"].get("resourceVersion"):
            body["metadata"] = {"resourceVersion": version}
        await self._pace.turn()
        written = await self._kube.merge(ISVC, name, body, "status")
        # The informer will say the same in a moment; until then nothing shall be written over it.
        if self._store.isvc(name) is document:
            self._store.put(ISVC, name, written)
        self._tell(document, old, new, view)

    def _addresses(self) -> Addresses:
        config = self._store.config
        host = f"{config.inference_service_name}.{self._settings.namespace}"
        scheme = "https" if config.tls.secret_name else "http"
        return Addresses(
            grpc=f"grpc://{host}:{config.inference_service_port}", rest=f"{scheme}://{host}:{config.rest_proxy.port}"
        )

    def _tell(self, document: Document, old: Document, new: Document, view: EndpointView | None) -> None:
        """Events for what changed between two statuses."""
        failure = (new.get("modelStatus") or {}).get("lastFailureInfo")
        before = (old.get("modelStatus") or {}).get("lastFailureInfo") or {}
        waits = failure and failure["reason"] == FailureReason.RUNTIME_UNHEALTHY.value
        if failure and not waits and any(failure.get(key) != before.get(key) for key in ("reason", "message")):
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


def _event_reason(failure: str) -> str:
    return "InvalidSpec" if failure == "InvalidPredictorSpec" else failure
