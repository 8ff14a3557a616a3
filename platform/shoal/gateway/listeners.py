"""What the gateway listens on: the gRPC port and the REST port, each with its filters. Routes come by xDS."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from google.protobuf import descriptor_pb2, duration_pb2
from google.rpc import error_details_pb2

from shoal.gateway import names, ticks
from shoal.gateway.counting import counted_logs
from shoal.gateway.filters import lua_filter, noted_encoding, own_headers
from shoal.gateway.replies import grpc_replies, rest_replies
from shoal.gateway.routes import TRANSCODER, TRANSCODER_TYPE
from shoal.gateway.settings import Address, GatewaySettings
from shoal.gateway.underway import at_the_end, log_options, long_log
from shoal.gateway.watched_requests import watched_log
from shoal_protos.inference import DESCRIPTOR_SET, SERVICE

_TYPE = "type.googleapis.com/envoy.extensions"
_DEFAULT_WINDOW = 1 << 24
"""Bytes of a request that Envoy takes ahead on HTTP/2 unless told otherwise."""
FIRST_ROUTES_SECONDS = 2
"""How long a gateway that starts waits for its first routes before it opens its ports."""


def grpc_listener(settings: GatewaySettings) -> dict[str, Any]:
    """The port for gRPC: inference by name, and the mesh's management API."""
    filters = [lua_filter(names.LUA, ticks.GRPC, ticks.GRPC_PLAIN), _router()]
    tick_addresses = ticks.addresses(settings.grpc, ticks.GRPC, ticks.GRPC_PLAIN)
    return _listener("grpc", settings.grpc, tick_addresses, settings, names.FRONT_GRPC, filters, grpc_replies(settings))


def rest_listener(settings: GatewaySettings) -> dict[str, Any]:
    """The port for REST: the V2 protocol in its standard form and in that of the protobuf messages."""
    filters = [noted_encoding(), _gunzip(), lua_filter(names.LUA, ticks.REST), _transcoder(settings), _router()]
    tick_addresses = ticks.addresses(settings.rest, ticks.REST)
    return _listener("rest", settings.rest, tick_addresses, settings, names.FRONT_REST, filters, rest_replies(settings))


def _listener(
    name: str,
    address: Address,
    tick_addresses: list[dict[str, Any]],
    settings: GatewaySettings,
    front: str,
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
        "early_header_mutation_extensions": [own_headers(front)],
        "scoped_routes": _scoped_routes(),
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


def _scoped_routes() -> dict[str, Any]:
    """Both ports have the same, and so the same scopes: Envoy keeps them once."""
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": f"{FIRST_ROUTES_SECONDS}s"}
    return {
        "name": "routes",
        "scope_key_builder": {
            "fragments": [{"header_value_extractor": {"name": names.ROUTE_HEADER, "index": 0}}],
        },
        "rds_config_source": ads,
        "scoped_rds": {"scoped_rds_config_source": ads},
    }


def _router() -> dict[str, Any]:
    """The router. What happens to each attempt at a copy, the copy's cluster says."""
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": f"{_TYPE}.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
            "dynamic_stats": False,
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
        "name": TRANSCODER,
        "typed_config": {
            "@type": f"{_TYPE}.{TRANSCODER_TYPE}",
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
