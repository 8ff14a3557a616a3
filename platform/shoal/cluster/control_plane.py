"""The parts of the control plane: how each is run and how it shows that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from shoal.cluster.errors import ApiRequestError, ApiUnreachableError
from shoal.cluster.kube_client import KubeClient, read_kubeconfig
from shoal.cluster.options import MetricsOptions, ServingOptions
from shoal.cluster.ports import ControlPlane
from shoal.cluster.settings import ClusterSettings
from shoal.gateway.bootstrap import command as gateway_command
from shoal.gateway.bootstrap import write_bootstrap
from shoal.gateway.settings import Address, GatewaySettings

log = logging.getLogger(__name__)
_SAVE_SECONDS = 5.0
_STDOUT = Path("/dev/stdout")
"""Of the gateway: its log, which the keeper keeps from growing without bound."""


@dataclass(frozen=True, slots=True)
class ControlPlanePart:
    """One process of the control plane."""

    name: str
    title: str
    command: Callable[[], Sequence[str]]
    ready: Callable[[], Awaitable[str | None]]
    """Says None, or what is still missing until it can be used."""
    alive: Callable[[], Awaitable[str | None]]
    """Says None, or why it seems to hang; asked once it was ready."""


def api_server(settings: ClusterSettings, plane: ControlPlane) -> ControlPlanePart:
    """The embedded Kubernetes API."""
    host, ports = plane.host, plane.ports.control

    def command() -> Sequence[str]:
        flags = ["--state-dir", str(settings.state_dir), "--host", host, "--port", str(ports.api)]
        return [sys.executable, "-m", "shoal.apiserver", *flags]

    async def ready() -> str | None:
        try:
            credentials = read_kubeconfig(settings.layout.kubeconfig)
            if credentials.server != f"https://{host}:{ports.api}":
                return "its kubeconfig is of an earlier start"
            async with KubeClient(credentials, timeout=2.0) as client:
                await client.request("GET", "/readyz")
        except (ApiRequestError, ApiUnreachableError) as error:
            return str(error)
        return None

    return ControlPlanePart("apiserver", "Kubernetes API", command, ready, ready)


def mesh(settings: ClusterSettings, plane: ControlPlane, options: Callable[[], ServingOptions]) -> ControlPlanePart:
    """Controller and mesh, one process. `options` is asked at each start."""
    host, ports = plane.host, plane.ports.control

    def command() -> Sequence[str]:
        wanted = options()
        return [
            *(sys.executable, "-m", "shoal.controller", "--kubeconfig", str(settings.layout.kubeconfig)),
            *("--namespace", settings.namespace, "--registry", f"sqlite:{settings.state_dir / 'registry.db'}"),
            *("--host", host, "--xds-port", str(ports.xds), "--activator-grpc-port", str(ports.activator_grpc)),
            *("--activator-http-port", str(ports.activator_http), "--management-port", str(ports.management)),
            *(f"--pod-{name}-port={number}" for name, number in asdict(plane.ports.pods).items()),
            *("--admin-port", str(ports.admin), "--max-message-bytes", str(wanted.max_message_bytes), "--embedded"),
            *_metrics_flags(wanted.metrics, settings),
        ]

    async def ready() -> str | None:
        return await _http_ready(f"http://{host}:{ports.admin}/readyz")

    async def alive() -> str | None:
        return await _http_answers(f"http://{host}:{ports.admin}/healthz")

    return ControlPlanePart("mesh", "mesh and controller", command, ready, alive)


def _metrics_flags(wanted: MetricsOptions, settings: ClusterSettings) -> Sequence[str]:
    flags = [] if wanted.port is None else ["--metrics-port", str(wanted.port)]
    if wanted.https:
        tls = settings.layout.tls  # the API's own certificate: the mesh has the same address
        flags += ["--metrics-certificate", str(tls / "server.crt"), "--metrics-key", str(tls / "server.key")]
    return [*flags, "--per-model-metrics"] if wanted.per_model else flags


def gateway(settings: ClusterSettings, plane: ControlPlane, options: Callable[[], ServingOptions]) -> ControlPlanePart:
    """Envoy. `options` is asked at each start."""
    own, host, ports = settings.gateway_host, plane.host, plane.ports.control

    def command() -> Sequence[str]:
        wanted = options()
        gateway_settings = GatewaySettings(
            grpc=Address(host=own, port=settings.grpc_port),
            rest=Address(host=own, port=settings.rest_port),
            xds=Address(host=host, port=ports.xds),
            activator_grpc=Address(host=host, port=ports.activator_grpc),
            activator_http=Address(host=host, port=ports.activator_http),
            management=Address(host=host, port=ports.management),
            max_message_bytes=wanted.max_message_bytes,
            access_log=_STDOUT if wanted.access_log else None,
            per_model_metrics=wanted.metrics.per_model,
        )
        path = settings.layout.gateway / "envoy.json"
        write_bootstrap(gateway_settings, path)
        return gateway_command(gateway_settings, path)

    async def ready() -> str | None:
        for port in (settings.grpc_port, settings.rest_port):
            why = await _listens(own, port)
            if why is not None:
                return why
        return None

    async def alive() -> str | None:
        # The kernel accepts connections for a process that hangs, so it must answer something.
        return await _http_answers(f"http://{own}:{settings.rest_port}/v2/health/live")

    return ControlPlanePart("gateway", "gateway", command, ready, alive)


async def save_usage(plane: ControlPlane) -> None:
    """Have the mesh write down last uses, also what gateways have not reported yet."""
    url = f"http://{plane.host}:{plane.ports.control.admin}/usage/save"
    try:
        async with httpx.AsyncClient(timeout=_SAVE_SECONDS, trust_env=False, verify=False) as client:
            (await client.post(url)).raise_for_status()
    except httpx.HTTPError as error:
        log.warning("uses of the last second are forgotten: %s does not answer (%s)", url, error)


async def _http_ready(url: str) -> str | None:
    response = await _get(url)
    if isinstance(response, str) or response.is_success:
        return response if isinstance(response, str) else None
    return f"{url} answered {response.status_code}: {response.text.strip()[:200]}"


async def _http_answers(url: str) -> str | None:
    response = await _get(url)
    return response if isinstance(response, str) else None


async def _get(url: str) -> httpx.Response | str:
    """The answer, or why there is none."""
    try:
        # Reading certificates for plain HTTP would cost more than all the rest.
        async with httpx.AsyncClient(timeout=2.0, trust_env=False, verify=False) as client:
            return await client.get(url)
    except httpx.HTTPError as error:
        return f"{url} does not answer ({str(error) or type(error).__name__})"


async def _listens(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return f"nothing listens on {host}:{port} yet"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None
