"""Tells the mesh about runtime pods: found at an address, stopping, gone. Pods are known by the marks of `render`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from shoal.controller.endings import Endings
from shoal.controller.pods import (
    GRPC_PORT_ANNOTATION,
    HTTP_PORT_ANNOTATION,
    MANAGEMENT_PORT_ANNOTATION,
    RUNTIME_ANNOTATION,
)
from shoal.controller.render import SERVICE_LABEL
from shoal.core.types import PodId, RuntimeName
from shoal.mesh.api import MeshApi, PodEndpoint

_LOG = logging.getLogger(__name__)
_OVER = ("Succeeded", "Failed")


class PodDiscovery:
    """What the mesh was told of each pod, so that it hears everything once and in order."""

    def __init__(self, mesh: MeshApi) -> None:
        self._mesh = mesh
        self._endings = Endings(mesh)
        self._found: dict[str, PodEndpoint] = {}
        self._stopping: set[str] = set()

    def changed(self, name: str, pod: Mapping[str, Any] | None) -> None:
        """A pod is as given, or gone (None)."""
        if pod is None or (pod.get("status") or {}).get("phase") in _OVER:
            self._gone(name)
            return
        endpoint = endpoint_of(pod)
        if endpoint is None:
            return
        self._endings.changed(name, pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._stop(name, endpoint)
        elif self._found.get(name) != endpoint:
            self._found[name] = endpoint
            self._mesh.pod_found(endpoint)

    def _stop(self, name: str, endpoint: PodEndpoint) -> None:
        if name in self._stopping:
            return
        if name not in self._found:
            # After a restart of the mesh: it must know the pod to empty it.
            self._found[name] = endpoint
            self._mesh.pod_found(endpoint)
        self._stopping.add(name)
        self._mesh.pod_stopping(endpoint.id)

    def _gone(self, name: str) -> None:
        self._stopping.discard(name)
        self._endings.gone(name)
        if self._found.pop(name, None) is not None:
            self._mesh.pod_gone(PodId(name))


def endpoint_of(pod: Mapping[str, Any]) -> PodEndpoint | None:
    """Where a runtime pod is reached; None if it is none, or has no address yet."""
    metadata, address = pod["metadata"], (pod.get("status") or {}).get("podIP")
    notes = metadata.get("annotations") or {}
    if SERVICE_LABEL not in (metadata.get("labels") or {}) or RUNTIME_ANNOTATION not in notes or not address:
        return None
    try:
        return PodEndpoint(
            id=PodId(metadata["name"]),
            runtime=RuntimeName(notes[RUNTIME_ANNOTATION]),
            host=address,
            management_port=int(notes[MANAGEMENT_PORT_ANNOTATION]),
            grpc_port=int(notes[GRPC_PORT_ANNOTATION]),
            http_port=int(notes[HTTP_PORT_ANNOTATION]) if HTTP_PORT_ANNOTATION in notes else None,
        )
    except (KeyError, ValueError) as error:
        _LOG.warning("pod %s is not used: wrong or missing annotation %s", metadata["name"], error)
        return None
