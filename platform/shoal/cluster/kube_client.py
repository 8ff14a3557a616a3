"""A small JSON client of the Kubernetes API, for the local kubelet and the command line.

Objects are plain dictionaries here, so the official client's models (half a second of imports, some 55 MB)
would be dead weight in the supervisor and in every `shoal get`; `shoal.cli` still asks the official client to read
kubeconfigs of real clusters. The protocol used is the documented one: JSON bodies, `Status` errors, watches as lines.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import yaml

from shoal.cluster.errors import ApiRequestError, ApiUnreachableError

Object: TypeAlias = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass(frozen=True, slots=True)
class ApiResource:
    """A kind of object as the API addresses it. `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, or of one object."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


DEPLOYMENTS = ApiResource("apps", "v1", "deployments", "Deployment")
PODS = ApiResource("", "v1", "pods", "Pod")
SECRETS = ApiResource("", "v1", "secrets", "Secret")
CONFIG_MAPS = ApiResource("", "v1", "configmaps", "ConfigMap")
CLAIMS = ApiResource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
EVENTS = ApiResource("", "v1", "events", "Event")
NAMESPACES = ApiResource("", "v1", "namespaces", "Namespace", namespaced=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach an API server and prove who one is."""

    server: str
    verify: ssl.SSLContext | bool = True
    headers: Mapping[str, str] | None = None


def read_kubeconfig(path: Path) -> Credentials:
    """Credentials from a kubeconfig as `shoal up` writes it: one context, a token, the certificate authority inline.

    Raises:
        ApiUnreachableError: the file is missing or is not such a kubeconfig.
    """
    try:
        document = yaml.safe_load(path.read_text())
        cluster = document["clusters"][0]["cluster"]
        user = document["users"][0]["user"]
        server = str(cluster["server"]).rstrip("/")
        verify: ssl.SSLContext | bool = True
        if "certificate-authority-data" in cluster:
            authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
            verify = ssl.create_default_context(cadata=authority)
        elif "certificate-authority" in cluster:
            verify = ssl.create_default_context(cafile=cluster["certificate-authority"])
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    except FileNotFoundError:
        raise ApiUnreachableError(f"there is no {path}: start the cluster with `shoal up`") from None
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise ApiUnreachableError(
            f"{path} is not a kubeconfig Shoal wrote ({error!r}); `shoal up` writes it anew"
        ) from error
    return Credentials(server, verify, headers)


class KubeClient:
    """Talks to one API server. Use it as an async context manager."""

    def __init__(self, credentials: Credentials, timeout: float = 30.0) -> None:
        self.server = credentials.server
        self._http = httpx.AsyncClient(
            base_url=credentials.server,
            verify=credentials.verify,
            headers=dict(credentials.headers or {}),
            timeout=httpx.Timeout(timeout, connect=5.0),
            limits=httpx.Limits(max_connections=64),
            trust_env=False,
        )

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> httpx.Response:
        """Send one request.

        Raises:
            ApiError: the server refused it.
            ApiUnreachableError: no answer.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {"Accept": accept} | ({"Content-Type": content_type} if content is not None else {})
        try:
            response = await self._http.request(method, path, params=params, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise api_error(response.status_code, response.content)
        return response

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """The decoded answer of `request`."""
        return (await self.request(method, path, **options)).json()

    async def get(self, resource: ApiResource, namespace: str | None, name: str) -> Object | None:
        """One object, or None if there is none."""
        try:
            found: Object = await self.json("GET", resource.path(namespace, name))
        except ApiRequestError as error:
            if error.code == 404:
                return None
            raise
        return found

    async def list(self, resource: ApiResource, namespace: str | None, selector: str = "") -> tuple[list[Object], str]:
        """All objects and the resourceVersion to watch from."""
        params = {"labelSelector": selector} if selector else None
        document = await self.json("GET", resource.path(namespace), params=params)
        return list(document.get("items") or ()), document["metadata"].get("resourceVersion", "")

    async def create(self, resource: ApiResource, namespace: str | None, body: Object) -> Object:
        """Create an object."""
        created: Object = await self.json("POST", resource.path(namespace), body=body)
        return created

    async def merge(
        self, resource: ApiResource, namespace: str | None, name: str, patch: Object, subresource: str | None = None
    ) -> Object:
        """Change an object by a JSON merge patch (RFC 7386)."""
        path = resource.path(namespace, name, subresource)
        changed: Object = await self.json("PATCH", path, body=patch, content_type=MERGE_PATCH)
        return changed

    async def delete(self, resource: ApiResource, namespace: str | None, name: str, grace: int | None = None) -> bool:
        """Delete an object. False if there is none. `grace` is `gracePeriodSeconds`."""
        params = None if grace is None else {"gracePeriodSeconds": str(grace)}
        try:
            await self.request("DELETE", resource.path(namespace, name), params=params)
        except ApiRequestError as error:
            if error.code == 404:
                return False
            raise
        return True

    async def watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Object]:
        """Events of a watch until the server ends it.

        Raises:
            ApiError: refused, or an `ERROR` event came; code 410 means: list again.
            ApiUnreachableError: the connection broke.
        """
        async for line in self.lines(path, {**params, "watch": "true", "allowWatchBookmarks": "true"}):
            event = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise ApiRequestError(int(status.get("code", 500)), status.get("reason", ""), status.get("message", ""))
            yield event

    async def lines(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[str]:
        """A streamed answer line by line, as of watches and followed logs."""
        timeout = httpx.Timeout(30.0, read=None)
        try:
            async with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                if response.is_error:
                    raise api_error(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if line:
                        yield line
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.HTTPError) -> ApiUnreachableError:
        return ApiUnreachableError(
            f"the Kubernetes API at {self.server} does not answer ({error or type(error).__name__})"
        )


def warnings_of(response: httpx.Response) -> list[str]:
    """What the server remarks on a request it accepted (headers `Warning: 299 - "text"`)."""
    texts = (text for header in response.headers.get_list("Warning") for text in _WARNING.findall(header))
    return [_ESCAPED.sub(r"\1", text) for text in texts]


def api_error(code: int, content: bytes) -> ApiRequestError:
    """The error an answer describes, whether or not it is a `Status`."""
    status: Any = None
    with contextlib.suppress(ValueError):
        status = json.loads(content)
    if isinstance(status, dict) and isinstance(status.get("error"), str):  # the mesh's, through the service proxy
        return ApiRequestError(code, "", status["error"])
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return ApiRequestError(code, "", content.decode("utf-8", "replace").strip()[:500] or f"HTTP {code}")
    details = status.get("details") or {}
    causes = tuple((str(c.get("field", "")), str(c.get("message", ""))) for c in details.get("causes") or ())
    return ApiRequestError(code, str(status.get("reason", "")), str(status.get("message", "")), causes)
