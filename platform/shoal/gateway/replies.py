"""What the gateway itself refuses, in the words of each port: of the V2 protocol's REST, and of gRPC."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from shoal.gateway.names import HEALTH_SERVICE
from shoal.gateway.settings import GatewaySettings

_MESH_IS_DOWN = "the mesh does not answer: requests to models that are loaded are served, others wait until it is back"
_NO_ROUTES = "the gateway has started and has no routes yet: it gets them from the mesh, which does not answer"
_FULL = "as many requests as this model's pods can answer in time wait there already; try again in 1 s, or add pods"
_RETRY_SECONDS = 1
_UNAVAILABLE, _RESOURCE_EXHAUSTED = 14, 8


def rest_replies(settings: GatewaySettings) -> dict[str, Any]:
    """Refusals of the REST port: `{"error": "..."}`."""
    limit = f"the body is larger than {settings.max_message_bytes} bytes, the limit of this gateway"
    return {
        "mappers": [
            _mapper(limit, _status_is(413)),
            _mapper("the request took too long", _status_is(504)),
            _overflown(),
            _without_routes(),
            _mapper(_MESH_IS_DOWN, _status_is(503), _path_begins("/v2/health/")),
            *_not_http(),
        ],
        "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
    }


def grpc_replies(settings: GatewaySettings) -> dict[str, Any]:
    """Refusals of the gRPC port: a status and a message."""
    limit = f"the message is larger than {settings.max_message_bytes} bytes, the limit of this gateway"
    return {
        "mappers": [
            _mapper(limit, _status_is(413), grpc_status=_RESOURCE_EXHAUSTED),
            _mapper("the deadline passed", _status_is(504), grpc_status=4),
            _overflown(grpc_status=_RESOURCE_EXHAUSTED),
            _without_routes(grpc_status=_UNAVAILABLE),
            _mapper(_MESH_IS_DOWN, _status_is(503), _path_begins(f"/{HEALTH_SERVICE}/"), grpc_status=_UNAVAILABLE),
            *_not_http(),
        ]
    }


def _without_routes(grpc_status: int | None = None) -> dict[str, Any]:
    """A gateway that has not heard of the mesh yet, which gives it its routes."""
    is_path = _header(":path", string_match={"prefix": "/"})
    no_route = {"response_flag_filter": {"flags": ["NR"]}}
    return {**_mapper(_NO_ROUTES, no_route, is_path, grpc_status=grpc_status), "status_code": 503}


def _overflown(grpc_status: int | None = None) -> dict[str, Any]:
    """A pod is full: see `bounds`."""
    mapper = _mapper(_FULL, {"response_flag_filter": {"flags": ["UO"]}}, grpc_status=grpc_status)
    headers = {"retry-after": str(_RETRY_SECONDS)}
    if grpc_status is None:
        mapper["status_code"] = 429
    else:
        status = status_pb2.Status(code=grpc_status, message=_FULL)
        status.details.add().Pack(
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=_RETRY_SECONDS))
        )
        headers["grpc-status-details-bin"] = b64encode(status.SerializeToString()).decode("ascii")
    mapper["headers_to_add"] = mapper.get("headers_to_add", []) + [_set(name, value) for name, value in headers.items()]
    return mapper


def _not_http() -> list[dict[str, Any]]:
    """What Envoy refuses without a word: requests that it cannot route at all."""
    no_host = [_status_is(400), _header(":method", present_match=True), _header(":authority", present_match=False)]
    elsewhere = {"string_match": {"prefix": "/"}, "invert_match": True, "treat_missing_header_as_empty": True}
    no_path = [_status_is(404), _header(":path", **elsewhere)]
    return [
        _mapper("the request has no Host header, which HTTP/1.1 demands", *no_host),
        _mapper("the request has no path that begins with a slash", *no_path),
        _mapper("connections cannot be upgraded here, to WebSocket or anything else", _status_is(403)),
    ]


def _mapper(text: str, *filters: dict[str, Any], grpc_status: int | None = None) -> dict[str, Any]:
    """The text instead of Envoy's own where all of the filters match."""
    only = filters[0] if len(filters) == 1 else {"and_filter": {"filters": list(filters)}}
    mapper: dict[str, Any] = {"filter": only, "body": {"inline_string": text}}
    if grpc_status is not None:
        mapper["headers_to_add"] = [_set("grpc-status", str(grpc_status))]
    return mapper


def _set(header: str, value: str) -> dict[str, Any]:
    return {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _status_is(code: int) -> dict[str, Any]:
    value = {"default_value": code, "runtime_key": f"shoal.status_{code}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _path_begins(prefix: str) -> dict[str, Any]:
    return _header(":path", string_match={"prefix": prefix})


def _header(name: str, **matcher: Any) -> dict[str, Any]:
    return {"header_filter": {"header": {"name": name, **matcher}}}
