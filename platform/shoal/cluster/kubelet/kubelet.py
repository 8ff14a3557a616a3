"""The local kubelet: follows the API and keeps pods, Deployments and claims as declared.

Level-triggered: whatever changed, a round looks at everything in the mirrors and does what is missing, so a lost event
or a failed call is made up for by the next round.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from shoal.cluster.errors import ApiRequestError, ApiUnreachableError
from shoal.cluster.kube_client import KubeClient, Object
from shoal.cluster.kubelet.claims import bind_claims
from shoal.cluster.kubelet.deployments import DeploymentController
from shoal.cluster.kubelet.host import Host
from shoal.cluster.kubelet.worker import DEFAULT_GRACE, PodWorker, remove_tree
from shoal.cluster.layout import Layout
from shoal.cluster.network import Subnet
from shoal.process import BackoffPolicy

log = logging.getLogger(__name__)
_GATHER_SECONDS = 0.02
"""Changes that come together are handled together."""
_RETRY_SECONDS = 0.5
_TRIM_SECONDS = 10.0


class Kubelet:
    """Runs until cancelled; then every pod's processes are ended and their objects stay for the next start."""

    def __init__(
        self,
        client: KubeClient,
        layout: Layout,
        subnet: Subnet,
        namespace: str,
        *,
        policy: BackoffPolicy | None = None,
        stop_grace: float = 5.0,
    ) -> None:
        self._wanted = asyncio.Event()
        self._stop_grace = stop_grace
        self._host = Host(client, layout, subnet, namespace, self._wanted.set, policy or BackoffPolicy())
        self._deployments = DeploymentController(self._host)
        self._workers: dict[str, tuple[PodWorker, asyncio.Task[None]]] = {}
        self._sources: tuple[tuple[str, str], ...] = ()

    async def run(self) -> None:
        """Work until cancelled."""
        mirrors = [asyncio.create_task(mirror.run()) for mirror in self._host.mirrors]
        trimming = asyncio.create_task(self._trim_logs())
        try:
            for mirror in self._host.mirrors:
                await mirror.synced.wait()
            self._forget_old_directories()
            await self._work()
        finally:
            for task in (*mirrors, trimming):
                task.cancel()
            await asyncio.gather(*mirrors, trimming, return_exceptions=True)
            await self._halt()

    async def _work(self) -> None:
        self._wanted.set()
        while True:
            await self._wanted.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._wanted.clear()
            try:
                await bind_claims(self._host)
                self._refresh_volumes()
                self._sync_workers()
                await self._deployments.reconcile()
                self._sync_workers()
            except (ApiRequestError, ApiUnreachableError) as error:
                log.warning("reconciling: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._wanted.set()

    def _refresh_volumes(self) -> None:
        sources = tuple(
            (item["metadata"].get("uid", ""), item["metadata"].get("resourceVersion", ""))
            for mirror in (self._host.secrets, self._host.config_maps, self._host.claims)
            for item in mirror
        )
        if sources != self._sources:
            self._sources = sources
            for worker, _ in self._workers.values():
                worker.refresh()

    def _sync_workers(self) -> None:
        seen: set[str] = set()
        for pod in self._host.pods:
            name = pod["metadata"]["name"]
            seen.add(name)
            running = self._workers.get(name)
            if running is None:
                self._start_worker(pod)
            elif running[0].uid != pod["metadata"].get("uid", ""):
                running[0].want_stop(self._stop_grace, gone=True)
            elif pod["metadata"].get("deletionTimestamp"):
                running[0].want_stop(grace_of(pod))
        for name, (worker, _) in self._workers.items():
            if name not in seen:
                worker.want_stop(self._stop_grace, gone=True)

    def _start_worker(self, pod: Object) -> None:
        worker = PodWorker(self._host, pod)
        task = asyncio.create_task(worker.run(), name=f"pod {worker.name}")
        self._workers[worker.name] = (worker, task)
        task.add_done_callback(lambda done: self._worker_done(worker, done))

    def _worker_done(self, worker: PodWorker, task: asyncio.Task[None]) -> None:
        self._workers.pop(worker.name, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("pod %s failed and is run anew", worker.name, exc_info=task.exception())
        self._wanted.set()

    def _forget_old_directories(self) -> None:
        known = {pod["metadata"]["name"] for pod in self._host.pods}
        for directory in self._host.layout.pods.iterdir():
            if directory.name not in known:
                remove_tree(directory)

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(_TRIM_SECONDS)
            for worker, _ in list(self._workers.values()):
                worker.trim_logs()

    async def _halt(self) -> None:
        running = list(self._workers.values())
        await asyncio.gather(*(worker.halt(self._stop_grace) for worker, _ in running))
        for _, task in running:
            task.cancel()
        for _, task in running:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def grace_of(pod: Object) -> float:
    """Seconds a pod has to stop: what the deletion asked for, else what its spec says."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    said = pod["spec"].get("terminationGracePeriodSeconds")
    return float(asked if asked is not None else said if said is not None else DEFAULT_GRACE)
