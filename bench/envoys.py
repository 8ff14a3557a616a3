"""What is measured and what it is measured against: pods, a gateway that routes to them, and Envoy with one route."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import MODELS, REVISION, model
from bench.processes import HOST, free_port, running, settled_mib
from shoal.core.types import RouteKey
from shoal.gateway.bootstrap import command, write_bootstrap
from shoal.gateway.control import GatewayControl
from shoal.gateway.protocols import GatewayCallbacks, Upstream
from shoal.gateway.settings import Address, GatewaySettings

_ROUTE_SECONDS = 120.0
_TYPE = "type.googleapis.com/envoy.extensions"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class Pod:
    """A model server that holds all models."""

    grpc_port: int
    http_port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that has its routes, and has not been asked yet."""

    settings: GatewaySettings
    control: GatewayControl
    pid: int
    mib: float


@contextlib.asynccontextmanager
async def pods(count: int, models: int) -> AsyncIterator[list[Pod]]:
    """Model servers of which each holds all models."""
    async with contextlib.AsyncExitStack() as stack:
        started = []
        for _ in range(count):
            grpc_port, http_port = free_port(), free_port()
            addresses = (f"-grpc={HOST}:{grpc_port}", f"-http={HOST}:{http_port}")
            server = running(MODELS, *addresses, f"-holds={models}", f"-suffix={REVISION}", port=grpc_port)
            started.append(Pod(grpc_port, http_port, await stack.enter_async_context(server)))
        yield started


@contextlib.asynccontextmanager
async def gateway(folder: Path, pods: list[Pod], routed: int) -> AsyncIterator[Gateway]:
    """A gateway that routes so many models, one copy each, in turn to the pods."""
    settings = _settings()
    control = GatewayControl(settings, GatewayCallbacks(lambda _: None, lambda *_: None))
    control.publish(1, dict(_routes(pods, routed)))
    await control.start()
    path = folder / "gateway.json"
    write_bootstrap(settings, path)
    try:
        async with running(*command(settings, path), port=settings.grpc.port, log=path.with_suffix(".log")) as pid:
            await has_all(control)
            yield Gateway(settings, control, pid, await settled_mib(pid))
    finally:
        await control.stop()


async def has_all(control: GatewayControl) -> None:
    """Wait until the gateway runs with all that was published."""
    async with asyncio.timeout(_ROUTE_SECONDS):
        while not control.connected or control.accepted < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _routes(pods: list[Pod], routed: int) -> Iterator[tuple[RouteKey, tuple[Upstream, ...]]]:
    """Each model by its name and by its revision, as the mesh publishes them."""
    for number in range(routed):
        place = number % len(pods)
        pod, revision = pods[place], model(number) + REVISION
        copies = (Upstream(revision, HOST, pod.grpc_port, pod.http_port, pod=f"pod-{place}", runtime="bench"),)
        yield RouteKey(model(number)), copies
        yield RouteKey(revision, is_revision=True), copies


def _settings() -> GatewaySettings:
    ports = [Address(host=HOST, port=free_port()) for _ in range(6)]
    names = ("grpc", "rest", "xds", "activator_grpc", "activator_http", "management")
    return GatewaySettings.model_validate(dict(zip(names, ports, strict=True)))


@dataclass(frozen=True, slots=True)
class Server:
    """Something that is put under load: a port, and the process that answers there."""

    port: int
    pid: int


@contextlib.asynccontextmanager
async def floor(folder: Path, pod: Pod) -> AsyncIterator[Server]:
    """Envoy, started as the gateway is, that sends all to one server: one static route, no script, no metrics."""
    settings = _settings()
    path = folder / "floor.json"
    path.write_text(json.dumps(_one_route(settings.grpc, Address(host=HOST, port=pod.grpc_port))))
    async with running(*command(settings, path), port=settings.grpc.port, log=path.with_suffix(".log")) as pid:
        yield Server(settings.grpc.port, pid)


def _one_route(listens: Address, server: Address) -> dict[str, Any]:
    http2 = {"explicit_http_config": {"http2_protocol_options": {}}}
    router = {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}}
    connections = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "floor",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    listener = {
        "name": "floor",
        "address": _socket(listens),
        "connection_balance_config": {"exact_balance": {}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}]}],
    }
    cluster = {
        "name": "server",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "server",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(server)}}]}],
        },
        "typed_extension_protocol_options": {_OPTIONS: {"@type": f"type.googleapis.com/{_OPTIONS}", **http2}},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}
