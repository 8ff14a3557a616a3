"""How gateways report what their scripts counted (`lua/usage.lua`): Envoy asks itself, once an interval.

A script has its counts once in each worker. So each script has an address of its own, with as many connections as there
are workers, which Envoy spreads evenly: every worker has one, and answers a health check on it. The addresses are
abstract Unix sockets, so that only processes of this machine can ask.
"""

from __future__ import annotations

from typing import Any, Final

from shoal.gateway.settings import Address, GatewaySettings

TICK: Final = "/shoal.tick/"
"""Before the name of a script: the path of a request for its report."""
GRPC, GRPC_PLAIN, REST = "grpc", "grpc_plain", "rest"
"""The scripts that count."""
SCRIPTS: Final = (GRPC, GRPC_PLAIN, REST)
TIMEOUT: Final = 10
"""Seconds: longer than a script waits for the mesh, so that it can keep what the mesh has not taken."""


def connections(settings: GatewaySettings) -> int:
    """How many connections a gateway has to itself."""
    return len(SCRIPTS) * settings.workers


def addresses(address: Address, *scripts: str) -> list[dict[str, Any]]:
    """The `additional_addresses` of the listener that has these scripts and is known by `address`."""
    return [{"address": _pipe(address, script)} for script in scripts]


def clusters(settings: GatewaySettings) -> list[dict[str, Any]]:
    """One for each script: nothing is sent there but health checks."""
    return [_cluster(settings, settings.rest if script == REST else settings.grpc, script) for script in SCRIPTS]


def no_tick() -> dict[str, Any]:
    """The `envoy.config.accesslog.v3.AccessLogFilter` of other requests."""
    elsewhere = {"string_match": {"prefix": TICK}, "invert_match": True}
    return {"header_filter": {"header": {"name": ":path", **elsewhere}}}


def _pipe(address: Address, script: str) -> dict[str, Any]:
    return {"pipe": {"path": f"@shoal/{address.host}:{address.port}/{script}"}}


def _cluster(settings: GatewaySettings, address: Address, script: str) -> dict[str, Any]:
    name = f"shoal:tick-{script}"
    interval = f"{settings.usage_interval}s"
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _pipe(address, script)}}] * settings.workers}],
        },
        "health_checks": [
            {
                "timeout": f"{TIMEOUT}s",
                "interval": interval,
                "no_traffic_interval": interval,
                "no_traffic_healthy_interval": interval,
                "healthy_threshold": 1,
                "unhealthy_threshold": 1,
                "http_health_check": {"path": f"{TICK}{script}", "codec_client_type": "HTTP2"},
            }
        ],
    }
