"""What the gateway listens on: the gRPC port and the REST port, each with its filters and its route table."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, duration_pb2
from google.rpc import error_details_pb2

from shoal.gateway import names, ticks
from shoal.gateway.counting import counted_logs
from shoal.gateway.filters import lua_filter, noted_encoding, upstream_filters
from shoal.gateway.replies import grpc_replies, rest_replies
from shoal.gateway.retries import retry_elsewhere
from shoal.gateway.scripts import script
from shoal.gateway.settings import Address, GatewaySettings
from shoal.gateway.underway import at_the_end, log_options, long_log
from shoal.gateway.watching import watched_log
from shoal_protos.inference import DESCRIPTOR_SET, SERVICE

_TYPE = "type.googleapis.com/envoy.extensions"
_MESH_METHODS = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
_MESH_SERVICES = (
    "mmesh.ModelMesh",
    "com.ibm.watson.tas.proto.TasRuntime",
    names.HEALTH_SERVICE,
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
LUA = "shoal.lua"
_INFER, _METADATA, _STREAM = "ModelInfer", "ModelMetadata", "ModelStreamInfer"
_OTHER = "other"
"""Names of routes: what metrics call the method. Clients may call any method, so not each can have its own name."""
_DEFAULT_WINDOW = 1 << 24
"""Bytes of a request that Envoy takes ahead on HTTP/2 unless told otherwise."""
_TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
_TRANSCODER_TYPE = "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"


def grpc_listener(settings: GatewaySettings) -> dict[str, Any]:
    """The port for gRPC: inference by name, and the mesh's management API."""
    own: list[dict[str, Any]] = [{"match": {"prefix": f"/{service}/", "grpc": {}}} for service in _MESH_SERVICES]
    own += [{"match": {"path": f"/{SERVICE}/{method}", "grpc": {}}} for method in _MESH_METHODS]
    to_mesh = {"route": {"cluster": names.MANAGEMENT, **_route_limits(settings)}, **_lua_per_route({"disabled": True})}
    retries = retry_elsewhere(settings)
    by_name = _by_name(settings, retries)
    to_activator = {"route": {"cluster": names.ACTIVATOR_GRPC, **_route_limits(settings), "retry_policy": retries}}
    infer = {"path": f"/{SERVICE}/{_INFER}", "grpc": {}}
    has_route = {"headers": [_has_route()]}
    routes = [
        # Where the script sends a request ...
        {"name": _INFER, "match": infer | has_route, "route": by_name},
        *(
            {"name": method, "match": {"path": f"/{SERVICE}/{method}", "grpc": {}} | has_route, "route": by_name}
            for method in (_METADATA, _STREAM)
        ),
        {"name": _OTHER, "match": {"prefix": "/", "grpc": {}} | has_route, "route": by_name},
        # ... and where requests are before it, or when only the activator can tell where they belong.
        {"name": _INFER, "match": _plain_inference(), **to_activator, **_lua_per_route({"name": ticks.GRPC_PLAIN})},
        _watch_health(to_mesh),
        *({**match, **to_mesh} for match in own),
        {"name": _INFER, "match": infer, **to_activator},
        {"name": _OTHER, "match": {"prefix": "/", "grpc": {}}, **to_activator},
        _tick(ticks.GRPC),
        {**_tick(ticks.GRPC_PLAIN), **_lua_per_route({"name": ticks.GRPC_PLAIN})},
        {
            "match": {"prefix": "/"},
            "direct_response": {
                "status": 415,
                "body": {"inline_string": "this port speaks gRPC only; REST is served on its own port\n"},
            },
            **_lua_per_route({"disabled": True}),
        },
    ]
    filters = [lua_filter(LUA, ticks.GRPC, ticks.GRPC_PLAIN), _router("upstream", forget=["content-length"])]
    tick_addresses = ticks.addresses(settings.grpc, ticks.GRPC, ticks.GRPC_PLAIN)
    return _listener("grpc", settings.grpc, tick_addresses, settings, routes, filters, grpc_replies(settings))


def rest_listener(settings: GatewaySettings) -> dict[str, Any]:
    """The port for REST: the V2 protocol in its standard form and in that of the protobuf messages."""
    again = {"name": names.AGAIN_HEADER, "present_match": True}
    by_name = _by_name(settings, retry_elsewhere(settings, again))
    is_protobuf = {"name": names.FORM_HEADER, "string_match": {"exact": names.PROTOBUF_FORM}}
    nothing = {"@type": f"{_TYPE}.{_TRANSCODER_TYPE}", "proto_descriptor_bin": ""}
    transcoder_off = {"typed_per_filter_config": {_TRANSCODER: nothing}}
    is_get = {"name": ":method", "string_match": {"exact": "GET"}}
    mesh = {"name": names.ROUTE_HEADER, "string_match": {"prefix": names.OWN}}
    metadata = f"/{SERVICE}/{_METADATA}"
    routes: list[dict[str, Any]] = [
        {"match": {"prefix": "/", "headers": [mesh]}, "route": by_name, **transcoder_off},
        {"name": _METADATA, "match": {"path": metadata, "headers": [is_protobuf]}, "route": by_name},
        {"name": _INFER, "match": {"prefix": "/", "headers": [is_protobuf]}, "route": by_name},
        {
            "name": _METADATA,
            "match": {"prefix": "/", "headers": [_has_route(), is_get]},
            "route": by_name,
            **transcoder_off,
        },
        {"name": _INFER, "match": {"prefix": "/", "headers": [_has_route()]}, "route": by_name, **transcoder_off},
        {**_tick(ticks.REST), **transcoder_off},
        {"name": _OTHER, "match": {"prefix": "/"}, "direct_response": {"status": 404}, **transcoder_off},
    ]
    filters = [
        noted_encoding(),
        _gunzip(),
        lua_filter(LUA, ticks.REST),
        _transcoder(settings),
        _router("upstream_rest"),
    ]
    tick_addresses = ticks.addresses(settings.rest, ticks.REST)
    return _listener("rest", settings.rest, tick_addresses, settings, routes, filters, rest_replies(settings))


def _listener(
    name: str,
    address: Address,
    tick_addresses: list[dict[str, Any]],
    settings: GatewaySettings,
    routes: list[dict[str, Any]],
    filters: list[dict[str, Any]],
    local_replies: dict[str, Any],
) -> dict[str, Any]:
    logs = [watched_log(), *counted_logs(settings, is_grpc=name == "grpc")]
    if settings.access_log is not None:
        logs.append(_access_log(settings))
    manager: dict[str, Any] = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "skip_xff_append": True,
        "max_request_headers_kb": settings.max_headers_kib,
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "30s",
        "common_http_protocol_options": {"idle_timeout": "3600s"},
        # Old proxies and health checks speak HTTP/1.0, where a request need not say for which host it is.
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "shoal"},
        "http2_protocol_options": {
            "max_concurrent_streams": settings.max_streams,
            # Envoy holds back no more of a request than its stream's window.
            "initial_stream_window_size": max(_DEFAULT_WINDOW, settings.max_message_bytes),
        },
        "local_reply_config": local_replies,
        "access_log_options": log_options(),
        "access_log": [long_log(), *map(at_the_end, logs)],
        "http_filters": filters,
        "route_config": {
            "name": name,
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": ["*"],
                    "include_request_attempt_count": True,
                    "routes": routes,
                }
            ],
        },
    }
    return {
        "name": name,
        "per_connection_buffer_limit_bytes": settings.max_message_bytes,
        "address": {"socket_address": {"address": address.host, "port_value": address.port}},
        "additional_addresses": tick_addresses,
        # gRPC clients keep few connections for long; left to chance, one worker has all of them.
        "connection_balance_config": {"exact_balance": {}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _tick(script_name: str) -> dict[str, Any]:
    """Has the script run, which answers itself. Without a name, so that no metric has it."""
    is_get = {"name": ":method", "string_match": {"exact": "GET"}}
    return {"match": {"path": ticks.TICK + script_name, "headers": [is_get]}, "direct_response": {"status": 404}}


def _watch_health(to_mesh: dict[str, Any]) -> dict[str, Any]:
    """Whoever follows the mesh's health does so for as long as it likes."""
    unlimited = {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"}
    return {
        **to_mesh,
        "match": {"path": names.WATCH_HEALTH, "grpc": {}},
        "route": {**to_mesh["route"], "max_stream_duration": unlimited},
    }


def _has_route() -> dict[str, Any]:
    return {"name": names.ROUTE_HEADER, "present_match": True}


def _route_limits(settings: GatewaySettings) -> dict[str, Any]:
    """A client's own deadline counts as it is; requests without one get the gateway's."""
    return {
        "timeout": "0s",
        "max_stream_duration": {
            "max_stream_duration": f"{settings.request_timeout}s",
            "grpc_timeout_header_max": "0s",
        },
    }


def _by_name(settings: GatewaySettings, retries: dict[str, Any]) -> dict[str, Any]:
    return {
        **_route_limits(settings),
        "retry_policy": retries,
        "inline_cluster_specifier_plugin": {
            "extension": {
                "name": "envoy.router.cluster_specifier_plugin.lua",
                "typed_config": {
                    "@type": f"{_TYPE}.router.cluster_specifiers.lua.v3.LuaConfig",
                    "default_cluster": names.ACTIVATOR_GRPC,
                    "source_code": {"inline_string": script("cluster")},
                },
            }
        },
    }


def _lua_per_route(what: dict[str, Any]) -> dict[str, Any]:
    return {"typed_per_filter_config": {LUA: {"@type": f"{_TYPE}.filters.http.lua.v3.LuaPerRoute", **what}}}


def _plain_inference() -> dict[str, Any]:
    """Nearly all requests: nothing but the message says for which model and copy they are."""
    absent = (
        *("mm-vmodel-id", "mm-vmodel-id-bin", "mm-model-id", "mm-model-id-bin", "tas-model-id", "grpc-encoding"),
        *(names.REVISION_HEADER, names.CANARY_HEADER),
    )
    headers = [{"name": name, "present_match": False} for name in absent]
    return {"path": f"/{SERVICE}/ModelInfer", "grpc": {}, "headers": headers}


def _router(script_name: str, forget: Sequence[str] = ()) -> dict[str, Any]:
    """The router, with what happens to each attempt once its copy is known. `forget`: headers never sent on."""
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{_TYPE}.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
            "dynamic_stats": False,
            "upstream_http_filters": upstream_filters(script_name, forget),
        },
    }


def _gunzip() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.decompressor",
        "typed_config": {
            "@type": f"{_TYPE}.filters.http.decompressor.v3.Decompressor",
            "decompressor_library": {
                "name": "gzip",
                "typed_config": {"@type": f"{_TYPE}.compression.gzip.decompressor.v3.Gzip", "window_bits": 15},
            },
            "request_direction_config": {"advertise_accept_encoding": False},
            "response_direction_config": {
                "common_config": {"enabled": {"default_value": False, "runtime_key": "shoal.gunzip_responses"}}
            },
        },
    }


def _transcoder(settings: GatewaySettings) -> dict[str, Any]:
    return {
        "name": _TRANSCODER,
        "typed_config": {
            "@type": f"{_TYPE}.{_TRANSCODER_TYPE}",
            "proto_descriptor_bin": b64encode(_descriptors()).decode("ascii"),
            "services": [SERVICE],
            "convert_grpc_status": True,
            "max_request_body_size": settings.max_message_bytes,
            "max_response_body_size": settings.max_message_bytes,
        },
    }


def _descriptors() -> bytes:
    """What REST clients are translated by, and the details of refusals: one it does not know is answered empty."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET)
    known = {file.name for file in files.file}
    for module in (duration_pb2, error_details_pb2):
        if module.DESCRIPTOR.name not in known:
            module.DESCRIPTOR.CopyToProto(files.file.add())
    return bytes(files.SerializeToString())


def _access_log(settings: GatewaySettings) -> dict[str, Any]:
    fields = {
        "time": "%START_TIME%",
        "path": "%REQ(:PATH)%",
        "endpoint": "%REQ(mm-vmodel-id)%",
        "upstream": "%UPSTREAM_HOST%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "milliseconds": "%DURATION%",
        "received": "%BYTES_RECEIVED%",
        "sent": "%BYTES_SENT%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "filter": ticks.no_tick(),
        "typed_config": {
            "@type": f"{_TYPE}.access_loggers.file.v3.FileAccessLog",
            "path": str(settings.access_log),
            "log_format": {"json_format": fields},
        },
    }
