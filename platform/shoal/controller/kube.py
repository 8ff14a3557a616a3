"""The Kubernetes API as the controller uses it: plain documents over the official client's connection.

Documents are dicts because the objects are compared and patched, not computed with; the same calls serve every kind.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

FIELD_MANAGER = "shoal-controller"
_TIMEOUT = (5.0, 30.0)
"""Seconds to connect and to read."""
_THREADS = 4

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection of objects of one kind."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Path of the collection, of an object in it, or of a part of that object. No namespace: all of them."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(part for part in (f"{base}{scope}/{self.plural}", name, subresource) if part)


ISVC = Resource("serving.kserve.io", "v1beta1", "inferenceservices")
RUNTIME = Resource("serving.kserve.io", "v1alpha1", "servingruntimes")
CLUSTER_RUNTIME = Resource("serving.kserve.io", "v1alpha1", "clusterservingruntimes", namespaced=False)
CONFIG_MAP = Resource("", "v1", "configmaps")
SECRET = Resource("", "v1", "secrets")
POD = Resource("", "v1", "pods")
SERVICE = Resource("", "v1", "services")
EVENT = Resource("", "v1", "events")
DEPLOYMENT = Resource("apps", "v1", "deployments")


class KubeError(Exception):
    """The API server refused or could not be reached."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        """HTTP status; 0 when there was no answer."""
        super().__init__(f"{status}: {message}" if status else message)

    @property
    def is_conflict(self) -> bool:
        """The object changed since it was read, or exists already."""
        return self.status == 409

    @property
    def is_missing(self) -> bool:
        """There is no such object."""
        return self.status == 404


class KubeApi(Protocol):
    """What reconcilers do to the API."""

    async def apply(self, resource: Resource, document: Document) -> Document:
        """Server-side apply, taking over fields of others."""

    async def create(self, resource: Resource, document: Document) -> Document:
        """Create an object."""

    async def merge(
        self, resource: Resource, name: str, patch: Document, subresource: str = "", *, namespace: str = ""
    ) -> Document:
        """Merge-patch an object; with `metadata.resourceVersion` in the patch only if it did not change since."""

    async def delete(self, resource: Resource, name: str) -> None:
        """Delete an object; fine when there is none."""


def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A connection by kubeconfig file, or from within a pod when there is none.

    Raises:
        kubernetes.config.ConfigException: neither is usable.
    """
    settings = client.Configuration()
    settings.retries = False
    if kubeconfig is None:
        config.load_incluster_config(settings)
    else:
        config.load_kube_config(str(kubeconfig), client_configuration=settings)
    return client.ApiClient(settings)


class Kube:
    """`KubeApi` over the official client, whose calls block, on a few threads."""

    def __init__(self, connection: client.ApiClient, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kube")

    def close(self) -> None:
        """Finish calls under way and end the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def apply(self, resource: Resource, document: Document) -> Document:
        """Server-side apply, taking over fields of others."""
        path = resource.path(self._namespace, document["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._call("PATCH", path, document, "application/apply-patch+yaml", query)

    async def create(self, resource: Resource, document: Document) -> Document:
        """Create an object."""
        namespace = document["metadata"].get("namespace") or self._namespace
        return await self._call("POST", resource.path(namespace), document, "application/json")

    async def merge(
        self, resource: Resource, name: str, patch: Document, subresource: str = "", *, namespace: str = ""
    ) -> Document:
        """Merge-patch an object; with `metadata.resourceVersion` in the patch only if it did not change since."""
        path = resource.path(namespace or self._namespace, name, subresource)
        return await self._call("PATCH", path, patch, "application/merge-patch+json", {"fieldManager": FIELD_MANAGER})

    async def delete(self, resource: Resource, name: str) -> None:
        """Delete an object; fine when there is none."""
        try:
            await self._call("DELETE", resource.path(self._namespace, name))
        except KubeError as error:
            if not error.is_missing:
                raise

    async def _call(
        self, verb: str, path: str, body: object = None, kind: str = "", query: Mapping[str, str] | None = None
    ) -> Document:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._blocking, verb, path, body, kind, query or {})

    def _blocking(self, verb: str, path: str, body: object, kind: str, query: Mapping[str, str]) -> Document:
        headers = {"Accept": "application/json"} | ({"Content-Type": kind} if kind else {})
        try:
            answer: Document = self._connection.call_api(
                path,
                verb,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                response_types_map=dict.fromkeys((200, 201, 202), "object"),
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=_TIMEOUT,
            )
        except ApiException as error:
            raise KubeError(error.status or 0, _message(error)) from None
        except Exception as error:  # urllib3's errors have no common public base
            raise KubeError(0, f"{type(error).__name__}: {error}") from error
        return answer


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
