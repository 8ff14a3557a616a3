"""The supervisor of an embedded instance: starts its parts in order, keeps them running, ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import astuple
from typing import Any

from shoal import process
from shoal.cluster import lock
from shoal.cluster.control_plane import ControlPlanePart, api_server, gateway, mesh, save_usage
from shoal.cluster.errors import ApiRequestError, ApiUnreachableError, ClusterError
from shoal.cluster.factory import apply_factory
from shoal.cluster.keeper import Keeper
from shoal.cluster.kube_client import CONFIG_MAPS, DEPLOYMENTS, PODS, KubeClient, Object, read_kubeconfig
from shoal.cluster.kubelet.host import base_env
from shoal.cluster.kubelet.kubelet import Kubelet
from shoal.cluster.kubelet.mirror import Mirror
from shoal.cluster.network import Subnet, choose_subnet, require_port
from shoal.cluster.options import ServingOptions, serving_options
from shoal.cluster.ports import BuiltInPorts, ControlPlane, choose_ports
from shoal.cluster.report import (
    BEAT_SECONDS,
    ClusterAddresses,
    ClusterPhase,
    ClusterReport,
    PartReport,
    PartState,
    write_report,
)
from shoal.cluster.settings import ClusterSettings
from shoal.cluster.targets import targets, write_targets
from shoal.disk import disk_of, full_message, means_full
from shoal.resources.shape import parse_quantity

log = logging.getLogger(__name__)
START_SECONDS = 60.0
"""A part that is not ready by then fails the start."""
_PARTS_GRACE = 8.0
_PODS_POLL = 0.2
_TARGETS_POLL = 1.0

Observer = Callable[[ClusterReport], None]


class Supervisor:
    """Runs one instance. `observe` is called with every change of the report."""

    def __init__(self, settings: ClusterSettings, observe: Observer | None = None) -> None:
        self._settings = settings
        self._layout = settings.layout
        self._observe = observe or (lambda _: None)
        self._report: ClusterReport | None = None
        self._options = ServingOptions()

    async def run(self) -> None:
        """Start everything and work until cancelled.

        Raises:
            ClusterError: the instance cannot start; what was started is ended again.
        """
        prepare_state_dir(self._settings)
        with lock.held(self._layout.lock):
            process.end_leftovers(str(self._layout.root))
            require_port(self._settings.gateway_host, self._settings.grpc_port, "--grpc-port")
            require_port(self._settings.gateway_host, self._settings.rest_port, "--rest-port")
            ports = choose_ports()
            subnet = choose_subnet(self._layout.root, astuple(ports.control))
            plane = ControlPlane(subnet.control_plane, ports)
            self._save_settings()
            self._report = self._first_report(plane)
            try:
                await self._run(subnet, plane)
            except ClusterError as error:
                self._phase(ClusterPhase.FAILED, str(error))
                raise
            finally:
                self._layout.targets.unlink(missing_ok=True)
                if self._report.phase != ClusterPhase.FAILED:
                    self._layout.status.unlink(missing_ok=True)

    async def _run(self, subnet: Subnet, plane: ControlPlane) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(_working(self._beat(), "beat"))
            stack.callback(self._phase_stopping)
            api = await stack.enter_async_context(self._kept(api_server(self._settings, plane)))
            await api.wait_ready(START_SECONDS)
            client = await stack.enter_async_context(KubeClient(read_kubeconfig(self._layout.kubeconfig)))
            await self._apply_factory(client, plane.ports.built_in)
            changed = asyncio.Event()
            config_maps = Mirror(client, CONFIG_MAPS, self._settings.namespace, changed.set)
            await stack.enter_async_context(_working(config_maps.run(), "settings"))
            await config_maps.synced.wait()
            self._options = serving_options(config_maps.get, self._options)
            controller = await stack.enter_async_context(self._kept(mesh(self._settings, plane, lambda: self._options)))
            await stack.enter_async_context(_working(self._keep_kubelet(client, subnet), "kubelet"))
            entrance = await stack.enter_async_context(
                self._kept(gateway(self._settings, plane, lambda: self._options))
            )
            await controller.wait_ready(START_SECONDS)
            await entrance.wait_ready(START_SECONDS)
            self._phase(ClusterPhase.READY)
            stack.push_async_callback(save_usage, plane)  # first of all, for each part knows some of it
            following = self._follow_options(config_maps, changed, controller, entrance)
            await stack.enter_async_context(_working(following, "options"))
            await stack.enter_async_context(_working(self._keep_targets(client, plane.host), "targets"))
            await self._follow_pods(client)

    async def _follow_options(
        self, config_maps: Mirror, changed: asyncio.Event, controller: Keeper, entrance: Keeper
    ) -> None:
        """Start anew what a change of the settings concerns, for ever."""
        while True:
            await changed.wait()
            changed.clear()
            before, self._options = self._options, serving_options(config_maps.get, self._options)
            why = "its settings in model-serving-config changed"
            if self._options.of_mesh != before.of_mesh:
                await controller.renew(_PARTS_GRACE, why)
            if self._options.of_gateway != before.of_gateway:
                await entrance.renew(_PARTS_GRACE, why)

    async def _apply_factory(self, client: KubeClient, ports: BuiltInPorts) -> None:
        try:
            await apply_factory(client, self._settings, ports)
        except (ApiRequestError, ApiUnreachableError) as error:
            raise ClusterError(f"the built-in runtimes cannot be declared: {error}") from error

    @contextlib.asynccontextmanager
    async def _kept(self, part: ControlPlanePart) -> AsyncIterator[Keeper]:
        keeper = Keeper(
            part,
            self._layout.log_of(part.name),
            self._layout.root,
            base_env(str(self._layout.root)),
            lambda: self._part_changed(part.name, keeper.report),
        )
        task = asyncio.create_task(keeper.run(), name=part.name)
        try:
            yield keeper
        finally:
            task.cancel()
            await keeper.stop(_PARTS_GRACE)
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep_kubelet(self, client: KubeClient, subnet: Subnet) -> None:
        while True:
            try:
                await Kubelet(client, self._layout, subnet, self._settings.namespace).run()
            except Exception:
                log.exception("the kubelet failed and is started anew")
                await asyncio.sleep(1.0)

    async def _keep_targets(self, client: KubeClient, host: str) -> None:
        """Tell Prometheus what there is to scrape, for ever."""
        namespace = self._settings.namespace
        pods = Mirror(client, PODS, namespace, lambda: None)
        async with _working(pods.run(), "pods to scrape"):
            await pods.synced.wait()
            while True:
                with contextlib.suppress(OSError):  # a full disk is told elsewhere
                    write_targets(self._layout.targets, targets(host, namespace, self._options.metrics, pods))
                await asyncio.sleep(_TARGETS_POLL)

    async def _follow_pods(self, client: KubeClient) -> None:
        """Keep the `pods` part of the report current, for ever."""
        while True:
            with contextlib.suppress(ApiRequestError, ApiUnreachableError):
                deployments, _ = await client.list(DEPLOYMENTS, self._settings.namespace)
                wanted = sum(int(d["spec"].get("replicas", 1)) for d in deployments)
                ready = sum(int((d.get("status") or {}).get("readyReplicas") or 0) for d in deployments)
                state = PartState.READY if ready >= wanted else PartState.STARTING
                problem = (
                    "" if ready >= wanted else first_problem((await client.list(PODS, self._settings.namespace))[0])
                )
                message = f"{ready}/{wanted}" + (f": {problem}" if problem else "")
                self._part_changed("pods", PartReport(state=state, message=message))
            settled = self._report is not None and self._report.parts["pods"].state is PartState.READY
            await asyncio.sleep(2.0 if settled else _PODS_POLL)

    def _save_settings(self) -> None:
        try:
            self._settings.save()
        except OSError as error:
            raise ClusterError(f"cannot write {self._layout.settings}: {error.strerror}") from None

    async def _beat(self) -> None:
        """Show that the report is current, and say in the log when the disk fills up or empties, for ever."""
        told = ""
        while True:
            if self._report is not None:
                write_report(self._layout.status, self._report)
            with contextlib.suppress(OSError):
                disk = disk_of(self._layout.root)
                state = "full" if disk.full else "nearly full" if disk.low else ""
                if state != told:
                    log.warning("the disk of %s is %s", self._layout.root, state or "no longer full")
                    told = state
            await asyncio.sleep(BEAT_SECONDS)

    # --- the report ------------------------------------------------------------------------------------------------

    def _first_report(self, plane: ControlPlane) -> ClusterReport:
        settings = self._settings
        host = settings.gateway_host
        return ClusterReport(
            pid=os.getpid(),
            namespace=settings.namespace,
            addresses=ClusterAddresses(
                grpc=f"{host}:{settings.grpc_port}",
                rest=f"http://{host}:{settings.rest_port}",
                api=f"https://{plane.host}:{plane.ports.control.api}",
                admin=f"http://{plane.host}:{plane.ports.control.admin}",
            ),
            parts={name: PartReport() for name in ("apiserver", "mesh", "gateway", "pods")},
        )

    def _part_changed(self, name: str, report: PartReport) -> None:
        if self._report is not None and self._report.parts.get(name) != report:
            self._report.parts[name] = report.model_copy()
            self._tell()

    def _phase(self, phase: ClusterPhase, message: str = "") -> None:
        if self._report is not None:
            self._report.phase, self._report.message = phase, message
            self._tell()

    def _phase_stopping(self) -> None:
        self._phase(ClusterPhase.STOPPING)

    def _tell(self) -> None:
        if self._report is not None:
            write_report(self._layout.status, self._report)
            self._observe(self._report)


@contextlib.asynccontextmanager
async def _working(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Something that goes on beside the body."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def first_problem(pods: list[Object]) -> str:
    """Why a pod is not running, of the first container that says so; "" if all are only starting."""
    for pod in pods:
        for status in (pod.get("status") or {}).get("containerStatuses") or ():
            waiting = status["state"].get("waiting") or {}
            if waiting.get("message"):
                return f"{pod['metadata']['name']}: {status['name']}: {waiting['reason']}: {waiting['message']}"
    return ""


def prepare_state_dir(settings: ClusterSettings) -> None:
    """Check the options that only this machine can judge, and make the directories.

    Raises:
        ClusterError: naming the option to change.
    """
    try:
        parse_quantity(settings.pod_memory)
    except ValueError as error:
        raise ClusterError(f"--pod-memory: {error}") from None
    root = settings.state_dir
    try:
        settings.layout.create()
        disk = disk_of(root)
    except OSError as error:
        full = means_full(error, root)
        fix = "free some space or choose" if full else "choose"
        raise ClusterError(
            f"cannot write {error.filename or root}: {error.strerror}; {fix} another --state-dir"
        ) from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise ClusterError(f"{root} is not writable for this user; choose another --state-dir")
    if disk.full:
        raise ClusterError(f"{full_message(root)}: free some space or choose another --state-dir")
