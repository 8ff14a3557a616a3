"""The HTTP surface: requests in, verbs called, answers and `Status` objects out. No decision is made here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from shoal.apiserver import (
    auth,
    decoding,
    discovery,
    lifecycle,
    logs,
    openapi,
    paths,
    reads,
    representation,
    scale,
    selectors,
)
from shoal.apiserver.errors import (
    ApiError,
    bad_request,
    method_not_allowed,
    no_such_path,
    not_implemented,
    success,
    too_large,
    unsupported_media_type,
)
from shoal.apiserver.kinds import Kinds
from shoal.apiserver.paths import RequestTarget, flag
from shoal.apiserver.proxy import Proxy, address, split_name
from shoal.apiserver.representation import Representation
from shoal.apiserver.selectors import Selector
from shoal.apiserver.state import Document
from shoal.apiserver.store import ObjectStore
from shoal.apiserver.streaming import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, WatchOptions, WatchResponse
from shoal.apiserver.watch import Hub, Interest
from shoal.apiserver.writes import Patch, WriteResult, Writes, patch_of

MAX_BODY_BYTES = 3 * 1024 * 1024
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_UNSUPPORTED = ("exec", "attach", "portforward", "eviction", "binding", "ephemeralcontainers", "finalize", "approval")
_CLAIM_KEPT = "the files of a claim stay in the state directory (pvcs/NAME); a new claim of that name finds them"
_RETURNED_WHEN_DELETED = ("/pods", "/persistentvolumeclaims", "/services")

_log = logging.getLogger(__name__)


class Application:
    """The embedded API as an ASGI application."""

    def __init__(self, store: ObjectStore, kinds: Kinds, token: str, log_root: Path) -> None:
        self.hub = Hub(store.state, store.history)
        self.writes = Writes(store, kinds)
        self.proxy = Proxy()
        self._store = store
        self._kinds = kinds
        self._token = token
        self._log_root = log_root
        self._documents = _static_documents(kinds)
        store.listen(self.hub.publish)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong is a `Status`."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response: ASGIApp
        try:
            response = await self._answer(request)
        except ApiError as error:
            response = refusal(error)
        except ClientDisconnect:
            return
        except Exception:
            _log.exception("%s %s failed", request.method, request.url.path)
            response = refusal(ApiError(500, "InternalError", "the server failed on this request; its log says why"))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        path = request.url.path
        auth.authenticate(self._token, path, request.headers.get("authorization", ""))
        if path in auth.PUBLIC_PATHS and path != "/version":
            return Response("ok", media_type="text/plain")
        if (document := self._document(path, request.headers.get("accept", ""))) is not None:
            _only(request, "GET", "HEAD")
            return document
        segments = path.strip("/").split("/")
        if len(segments) == 4 and segments[1] in ("authorization.k8s.io", "authentication.k8s.io"):
            return await _review(request, segments[3])
        return await self._resource(request, paths.parse(path, self._kinds))

    def _document(self, path: str, accept: str) -> Response | None:
        """Return a discovery or OpenAPI document."""
        trimmed = path.rstrip("/")
        if trimmed in ("/api", "/apis") and f"g={discovery.AGGREGATED}" in accept and "v=v2;" in f"{accept};":
            body = self._documents[f"{trimmed}#aggregated"]
            kind = f"application/json;g={discovery.AGGREGATED};v=v2;as=APIGroupDiscoveryList"
            return Response(body, headers={"content-type": kind})
        found = self._documents.get(trimmed)
        return None if found is None else Response(found, media_type="application/json")

    async def _resource(self, request: Request, target: RequestTarget) -> ASGIApp:
        if target.subresource:
            return await self._subresource(request, target)
        if target.name:
            return await self._object(request, target)
        return await self._collection(request, target)

    async def _collection(self, request: Request, target: RequestTarget) -> ASGIApp:
        _only(request, "GET", "HEAD", "POST", "DELETE")
        form = self._form(request)
        if request.method == "POST":
            body, duplicates = decoding.decode_object(await _body(request), _content_type(request))
            return self._written(target, await self.writes.create(target, body, duplicates, _options(request)), form)
        selector = self._selector(request, target)
        if request.method == "DELETE":
            wanted, options = _delete_options(await _body(request), request)
            deleted = await self.writes.delete_all(target, selector, wanted, options)
            kind = target.kind
            metadata = {"resourceVersion": str(self._store.state.version)}
            return _json(
                {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": deleted}
            )
        if flag(request.query_params, "watch"):
            return self._watch(request, target, selector, form)
        page = reads.list_page(self._store, target, selector, request.query_params)
        return Response(representation.many(target.kind, page, form), media_type="application/json")

    async def _object(self, request: Request, target: RequestTarget) -> ASGIApp:
        _only(request, "GET", "HEAD", "PUT", "PATCH", "DELETE")
        form = self._form(request)
        if request.method in ("GET", "HEAD"):
            if flag(request.query_params, "watch"):
                only = selectors.Requirement("metadata.name", frozenset([target.name]))
                return self._watch(request, target, Selector(fields=(only,)), form)
            return _bytes(representation.one(target.kind, reads.get(self._store, target).document, form))
        if request.method == "DELETE":
            return await self._delete(request, target, form)
        return self._written(target, await self._change(request, target), form)

    async def _change(self, request: Request, target: RequestTarget) -> WriteResult:
        """PUT or PATCH, of an object or its status."""
        body, content_type = await _body(request), _content_type(request)
        options = _options(request)
        if request.method == "PUT":
            sent, duplicates = decoding.decode_object(body, content_type)
            return await self.writes.update(target, sent, duplicates, options)
        if content_type not in PATCH_TYPES:
            raise unsupported_media_type(content_type, PATCH_TYPES)
        if content_type == "application/apply-patch+yaml":
            if "fieldManager" not in request.query_params:
                raise bad_request("fieldManager: Required value: is required for apply patch")
            sent, duplicates = decoding.decode_object(body, content_type)
            return await self.writes.apply(target, sent, duplicates, options)
        decoded, duplicates = decoding.decode(body, content_type)
        return await self.writes.patch(target, patch_of(target.kind, content_type, decoded), duplicates, options)

    async def _delete(self, request: Request, target: RequestTarget, form: Representation) -> Response:
        wanted, options = _delete_options(await _body(request), request)
        kind = target.kind
        document, gone = await self.writes.delete(target, wanted, options)
        if not gone or kind.resource in _RETURNED_WHEN_DELETED:
            written = WriteResult(document, (_CLAIM_KEPT,) if kind.resource == "/persistentvolumeclaims" else ())
            return self._written(target, written, form)
        uid = document["metadata"]["uid"]
        return _json(success({"name": target.name, "group": kind.group, "kind": kind.plural, "uid": uid}))

    async def _subresource(self, request: Request, target: RequestTarget) -> ASGIApp:
        kind, name = target.kind, target.subresource
        if name == "status" and kind.has_status:
            _only(request, "GET", "HEAD", "PUT", "PATCH")
            return await self._object(request, target)
        if name == "scale" and kind.has_scale:
            return await self._scale(request, target)
        if name == "log" and kind.resource == "/pods":
            _only(request, "GET")
            return self._logs(request, target)
        if name == "proxy" and kind.resource == "/services":
            _only(request, "GET", "POST")
            service, port = split_name(target.name)
            record = reads.get(self._store, RequestTarget(kind, target.namespace, service))
            base = address(record.document, port)
            return await self.proxy.forward(request, base, target.rest, await _body(request))
        if name in _UNSUPPORTED:
            raise not_implemented(
                f"the embedded API has no {kind.plural}/{name}: pods are local processes here, use the programs of "
                "this machine on them; to put files into a claim use `shoal pvc create NAME --from PATH`"
            )
        raise no_such_path(request.url.path)

    async def _scale(self, request: Request, target: RequestTarget) -> Response:
        _only(request, "GET", "PUT", "PATCH")
        if request.method == "GET":
            return _json(scale.of(reads.get(self._store, target).document))
        body, content_type = await _body(request), _content_type(request)
        sent, _ = decoding.decode(body, content_type)
        inner: Patch
        if request.method == "PUT":
            inner = lambda _: sent if isinstance(sent, dict) else {}  # noqa: E731
        else:
            inner = patch_of(target.kind, content_type, sent)
        plain = RequestTarget(target.kind, target.namespace, target.name)
        written = await self.writes.patch(
            plain, lambda old: scale.into(old, inner(scale.of(old))), [], _options(request)
        )
        return _json(scale.of(written.document))

    def _logs(self, request: Request, target: RequestTarget) -> Response:
        pod = reads.get(self._store, target)
        wanted = logs.parse(pod.document, request.query_params)
        path = logs.find(self._log_root, pod.key.name, wanted)

        def running() -> bool:
            now = self._store.state.get(pod.key)
            return now is not None and _runs(now.document, wanted.container, pod.document["metadata"]["uid"])

        return StreamingResponse(logs.stream(path, wanted, running), media_type="text/plain")

    def _watch(self, request: Request, target: RequestTarget, selector: Selector, form: Representation) -> ASGIApp:
        query = request.query_params
        since = paths.number(query, "resourceVersion")
        initial = flag(query, "sendInitialEvents")
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            raise bad_request('sendInitialEvents requires resourceVersionMatch "NotOlderThan"')
        timeout = paths.number(query, "timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS
        interest = Interest(target.kind.resource, target.namespace, selector)
        opened = self.hub.open(interest, None if initial or not since else since)
        options = WatchOptions(
            form, flag(query, "allowWatchBookmarks"), float(min(timeout, MAX_TIMEOUT_SECONDS)), initial_end=initial
        )
        return WatchResponse(self.hub, target.kind, opened, options, lambda: self._store.state.version)

    def _form(self, request: Request) -> Representation:
        return representation.negotiate(
            request.headers.get("accept", ""), request.query_params.get("includeObject", "")
        )

    def _selector(self, request: Request, target: RequestTarget) -> Selector:
        query = request.query_params
        return selectors.parse(query.get("labelSelector", ""), query.get("fieldSelector", ""), target.kind.selectable)

    def _written(self, target: RequestTarget, written: WriteResult, form: Representation) -> Response:
        body = representation.one(target.kind, written.document, form)
        response = Response(body, status_code=201 if written.created else 200, media_type="application/json")
        for warning in written.warnings:
            text = warning.replace("\\", "\\\\").replace('"', '\\"').encode("ascii", "replace").decode()
            response.headers.append("warning", f'299 - "{" ".join(text.split())}"')
        return response


def refusal(error: ApiError) -> Response:
    """Return the HTTP form of a refused request."""
    headers = {}
    if "retryAfterSeconds" in error.details:
        headers["retry-after"] = str(error.details["retryAfterSeconds"])
    if error.code == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(representation.dumps(error.status()), error.code, headers, "application/json")


def _static_documents(kinds: Kinds) -> dict[str, bytes]:
    documents: dict[str, Any] = {
        "/version": discovery.version(),
        "/api": discovery.core_versions(),
        "/apis": discovery.groups(kinds),
        "/api#aggregated": discovery.aggregated(kinds, core=True),
        "/apis#aggregated": discovery.aggregated(kinds, core=False),
        "/openapi/v3": openapi.index(kinds),
    }
    for group, version in discovery.group_versions(kinds):
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        documents[f"/{path}"] = discovery.resources(kinds, group, version)
        documents[f"/openapi/v3/{path}"] = openapi.document(kinds, group, version)
        if group:
            documents[f"/apis/{group}"] = discovery.group(kinds, group)
    return {path: representation.dumps(document) for path, document in documents.items()}


def _only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise method_not_allowed(request.method, quote(request.url.path))


def _json(document: Document) -> Response:
    return _bytes(representation.dumps(document))


def _bytes(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _options(request: Request) -> paths.WriteOptions:
    return paths.write_options(request.query_params, request.headers.get("user-agent", ""))


async def _body(request: Request) -> bytes:
    """Read a body of at most `MAX_BODY_BYTES`."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
        raise too_large(MAX_BODY_BYTES)
    blocks = bytearray()
    async for block in request.stream():
        blocks += block
        if len(blocks) > MAX_BODY_BYTES:
            raise too_large(MAX_BODY_BYTES)
    return bytes(blocks)


def _delete_options(body: bytes, request: Request) -> tuple[lifecycle.DeleteOptions, paths.WriteOptions]:
    query = request.query_params
    sent: Document = decoding.decode_object(body, _content_type(request))[0] if body.strip() else {}
    dry_run = "All" if sent.get("dryRun") else query.get("dryRun", "")
    options = paths.write_options({**query, "dryRun": dry_run}, request.headers.get("user-agent", ""))
    propagation: Any = sent.get("propagationPolicy") or query.get("propagationPolicy", "") or "Background"
    if sent.get("orphanDependents"):
        propagation = "Orphan"
    if propagation not in ("Background", "Foreground", "Orphan"):
        raise bad_request(
            f'propagationPolicy: Unsupported value: "{propagation}": use Background, Foreground or Orphan'
        )
    grace = sent.get("gracePeriodSeconds")
    if grace is None:
        grace = paths.number(query, "gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise bad_request("gracePeriodSeconds must be a whole number")
    preconditions = sent.get("preconditions") or {}
    if not isinstance(preconditions, dict):
        raise bad_request("preconditions must be an object")
    uid, version = (str(preconditions.get(name) or "") for name in ("uid", "resourceVersion"))
    return lifecycle.DeleteOptions(propagation, grace, uid, version), options


def _runs(pod: Document, container: str, uid: str) -> bool:
    """Return whether a container of this very pod may still write its log."""
    if pod["metadata"]["uid"] != uid or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return False
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return not any(s.get("name") == container and (s.get("state") or {}).get("terminated") for s in statuses)


async def _review(request: Request, resource: str) -> Response:
    """Answer `kubectl auth can-i` and `whoami`: there is one user, who may do everything."""
    _only(request, "POST")
    sent, _ = decoding.decode_object(await _body(request), _content_type(request))
    statuses: dict[str, Any] = {
        "selfsubjectaccessreviews": {"allowed": True, "reason": "the token holder may do everything"},
        "selfsubjectrulesreviews": {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        },
        "selfsubjectreviews": {"userInfo": {"username": "shoal", "groups": ["system:masters", "system:authenticated"]}},
    }
    if resource not in statuses:
        raise no_such_path(request.url.path)
    return Response(representation.dumps({**sent, "status": statuses[resource]}), 201, media_type="application/json")
