"""InferenceServices of other namespaces, where this is the only mesh: they are told that nobody will serve them."""

from __future__ import annotations

from collections.abc import Callable

from shoal.controller.kube import ISVC, Document, KubeApi, Resource
from shoal.controller.settings import ControllerSettings
from shoal.controller.status import DeclaredStatus, foreign_status, merge_patch, status_patch
from shoal.resources import inferenceservice
from shoal.resources.problems import InvalidManifest


class Strangers:
    """Remembers what has to be told, by namespace and name."""

    def __init__(
        self, settings: ControllerSettings, kube: KubeApi, clock: Callable[[], float], add: Callable[[str, str], None]
    ) -> None:
        self._settings = settings
        self._kube = kube
        self._clock = clock
        self._add = add
        self._documents: dict[tuple[str, str], Document] = {}

    def changed(self, _: Resource, name: str, document: Document | None) -> None:
        """An InferenceService of any namespace changed."""
        namespace = "" if document is None else document["metadata"].get("namespace", "")
        if document is not None and namespace != self._settings.namespace:
            self._documents[namespace, name] = document
            self._add(namespace, name)

    async def reconcile(self, namespace: str, name: str) -> None:
        """Tell one, if it asks for ModelMesh mode and was not told.

        Raises:
            KubeError: the status could not be written; try again.
        """
        document = self._documents.get((namespace, name))
        if document is None:
            return
        await self._tell(document, namespace, name)
        if self._documents.get((namespace, name)) is document:
            del self._documents[namespace, name]

    async def _tell(self, document: Document, namespace: str, name: str) -> None:
        if document["metadata"].get("deletionTimestamp"):
            return
        try:
            service = inferenceservice.shape(document)
        except InvalidManifest:
            return
        if not service.is_ours:
            return
        old = document.get("status") or {}
        mine = self._settings.namespace
        message = f"the mesh serves the namespace {mine!r} only; create this InferenceService there"
        declared = DeclaredStatus(service.metadata.generation, not_ours=message)
        if patch := merge_patch(old, foreign_status(declared, old, self._clock())):
            await self._kube.merge(ISVC, name, status_patch(document, patch), "status", namespace=namespace)
