"""InferenceServices of a cluster, as the client declares them and waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from shoal.client import standing
from shoal.client.connection import APPLY, Connection, Document
from shoal.client.errors import NotFound, Refused, TimedOut
from shoal.resources import inferenceservice
from shoal.resources.problems import InvalidManifest
from shoal.resources.revision import revision_id

FIELD_MANAGER = "shoal-client"
_ISVCS = "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices"
_POLL_SECONDS = 0.2


class InferenceServices:
    """Those of one namespace."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self.namespace = namespace

    def isvc(self, name: str) -> Document | None:
        """An InferenceService as the API has it; None if there is none."""
        try:
            return self._connection.call("GET", self._isvc_path(name))
        except NotFound:
            return None

    def isvcs(self, selector: str = "") -> list[Document]:
        """All InferenceServices that a label selector chooses, such as `shoal.dev/scratch=true`."""
        query = {"labelSelector": selector} if selector else None
        found = self._connection.call("GET", self._isvc_path("").rstrip("/"), query=query)
        return [item for item in found.get("items") or () if isinstance(item, dict)]

    def create(self, manifest: Mapping[str, Any]) -> Document:
        """Declare an InferenceService that is not there yet; the object as stored.

        Raises:
            Refused: one of this name is there, which stays as it is; or a field is wrong.
        """
        document = self._document(manifest)
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._connection.call("POST", self._isvc_path("").rstrip("/"), document, query=query)

    def apply(self, manifest: Mapping[str, Any], field_manager: str = FIELD_MANAGER, *, force: bool = True) -> Document:
        """Declare an InferenceService by server-side apply; the object as stored.

        Args:
            manifest: with the fields this caller cares for; fields it applied before and leaves out now are removed.
            field_manager: under which name the API remembers whose fields they are.
            force: take over fields that others set.

        Raises:
            Refused: a field is wrong, with its path and the fix; or, without `force`, belongs to another.
        """
        document = self._document(manifest)
        query = {"fieldManager": field_manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        path = self._isvc_path(str(document["metadata"]["name"]))
        return self._connection.call("PATCH", path, document, kind=APPLY, query=query)

    def delete(self, name: str, uid: str = "") -> bool:
        """Delete an InferenceService. False if there is none.

        Args:
            name: of it.
            uid: only the object with this `metadata.uid`: not one that somebody else made under the name since.

        Raises:
            Refused: it has another uid.
        """
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}} if uid else None
        try:
            self._connection.call("DELETE", self._isvc_path(name), body)
        except NotFound:
            return False
        return True

    def wait_ready(self, name: str, generation: int | None = None, timeout: float = 60.0) -> Document:
        """Wait until a generation of an InferenceService serves; the object then.

        Args:
            name: of the InferenceService.
            generation: `metadata.generation` that `apply` returned; None: whichever is newest now.
            timeout: seconds.

        Raises:
            NotFound: there is none.
            Refused: its spec cannot be used.
            TimedOut: with how it stands.
        """
        wanted = generation if generation is not None else int(self._require(name)["metadata"]["generation"])
        for item in self._looks(name, timeout, "is not ready"):
            if standing.taken_up(item, wanted) and (why := standing.invalid(item)):
                raise Refused(f"InferenceService {name}: {why}")
            if standing.ready(item, wanted):
                return item
        raise AssertionError("the looks end by TimedOut only")

    @staticmethod
    def revision_of(manifest: Mapping[str, Any]) -> str:
        """The id of the revision that a manifest leads to, such as `fraud__isvc-3c10c62d34`.

        With an entry in `spec.canary` that is the canary's.

        Raises:
            Refused: a field is wrong, with its path and the fix.
        """
        try:
            service, stable = inferenceservice.parse(manifest)
        except InvalidManifest as error:
            raise Refused(str(error)) from None
        canary = inferenceservice.parse_canary(service)
        return revision_id(service.name, canary.model if canary else stable)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _isvc_path(self, name: str) -> str:
        return f"{_ISVCS.format(self.namespace)}/{name}"

    def _document(self, manifest: Mapping[str, Any]) -> Document:
        document = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", **manifest}
        metadata = {**(document.get("metadata") or {}), "namespace": self.namespace}
        if not metadata.get("name"):
            raise Refused("metadata.name: is required; add it")
        return {**document, "metadata": metadata}

    def _require(self, name: str) -> Document:
        item = self.isvc(name)
        if item is None:
            raise NotFound(f"there is no InferenceService {name!r} in namespace {self.namespace}; apply it first")
        return item

    def _looks(self, name: str, timeout: float, not_yet: str) -> Iterator[Document]:
        """The InferenceService again and again, until it is enough."""
        end = time.monotonic() + timeout
        while True:
            item = self._require(name)
            yield item
            if time.monotonic() >= end:
                words = standing.words_of(standing.status(item))
                raise TimedOut(f"InferenceService {name} {not_yet} after {timeout:g} s: {words}")
            time.sleep(_POLL_SECONDS)
