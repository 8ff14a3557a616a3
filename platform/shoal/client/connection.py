"""The Kubernetes API over the official client's connection: JSON in, JSON out, errors in Shoal's words.

The official client is imported when a connection is made, not with this module: that takes half a second, which a
command that only shows its help shall not spend.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shoal.client.errors import NotFound, Refused, ShoalError, Unreachable

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_MESH = "shoal-mesh"
_POOL = 8
"""Connections kept open; more threads than that open their own."""

Document = dict[str, Any]


class Connection:
    """One API server. May be used from several threads at once."""

    def __init__(self, kubeconfig: Path | None, context: str | None) -> None:
        """Connect as a kubeconfig says; None: as `KUBECONFIG` or `~/.kube/config` says, or from within a pod.

        Raises:
            ShoalError: the kubeconfig is missing or cannot be used.
        """
        from kubernetes import client, config

        settings = client.Configuration()
        settings.retries = False
        settings.connection_pool_maxsize = _POOL
        try:
            if kubeconfig is None and context is None and not _has_kubeconfig():
                config.load_incluster_config(settings)
            else:
                config.load_kube_config(str(kubeconfig) if kubeconfig else None, context, settings)
        except (config.ConfigException, OSError, TypeError) as error:
            where = kubeconfig or "KUBECONFIG, ~/.kube/config or the pod's service account"
            raise ShoalError(f"cannot connect by {where}: {error}; name a kubeconfig that exists") from None
        self._client = client.ApiClient(settings)
        self.server = str(settings.host).rstrip("/")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(
        self,
        verb: str,
        path: str,
        body: object = None,
        *,
        kind: str = JSON,
        query: Mapping[str, str] | None = None,
        timeout: float = _READ_SECONDS,
    ) -> Document:
        """The decoded answer of one request.

        Raises:
            NotFound: 404, said of the named object by the API server, or by the mesh behind it.
            Refused: another 4xx.
            Unreachable: 5xx, no answer within `timeout` seconds, or a 404 that says nothing of the object: whoever
                answers does not know such objects at all.
        """
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": JSON} | ({"Content-Type": kind} if body is not None else {})
        try:
            answer = self._client.call_api(
                path,
                verb,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                response_types_map=dict.fromkeys((200, 201, 202), "object"),
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=(_CONNECT_SECONDS, timeout),
            )
        except ApiException as error:
            raise self._error(error) from None
        except Exception as error:  # urllib3's errors have no common public base
            raise Unreachable(f"the Kubernetes API at {self.server} does not answer: {_short(error)}") from None
        if not isinstance(answer, dict):
            raise Unreachable(f"{self.server}{path} did not answer with an object; is this a cluster with Shoal?")
        return answer

    def _error(self, error: Any) -> ShoalError:
        code = error.status or 0
        message, by_api, named = _message(error)
        if code == 404 and not named:
            return Unreachable(f"{self.server} knows no such API: {message}; is this the API of a cluster with Shoal?")
        if code == 404 and not (by_api and f'"{_MESH}"' in message):
            return NotFound(message)
        if code in (401, 403):
            return Refused(f"{message}; use credentials that may do this at {self.server}")
        if 400 <= code < 500 and code not in (404, 408, 429):
            return Refused(message)
        hint = "; is it running? see `shoal status`" if _MESH in message else ""
        return Unreachable(f"{message}{hint}")


def _has_kubeconfig() -> bool:
    from kubernetes import config

    location = str(config.KUBE_CONFIG_DEFAULT_LOCATION)
    return any(Path(part).expanduser().is_file() for part in location.split(":") if part)


def _message(error: Any) -> tuple[str, bool, bool]:
    """What an error answer says, whether the API server says it (not the mesh behind it), and whether of an object."""
    text = str(error.body or "")
    plain = text.strip()[:500] or (f"HTTP {error.status} {error.reason}" if error.status else str(error.reason))
    try:
        document = json.loads(text)
    except ValueError:
        return plain, True, False
    if not isinstance(document, dict):
        return plain, True, False
    if "error" in document:
        return str(document["error"]), False, True
    details = document.get("details")
    named = document.get("kind") != "Status" or (isinstance(details, dict) and bool(details.get("name")))
    return str(document.get("message") or plain), True, named


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return f"{type(error).__name__}: {reason or error}"[:300]
