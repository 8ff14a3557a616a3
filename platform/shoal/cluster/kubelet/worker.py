"""One pod: its address, volumes and containers, its status, and its end."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from pathlib import Path
from typing import Any

from shoal import process
from shoal.cluster.errors import ApiRequestError, ApiUnreachableError, ClusterError
from shoal.cluster.kube_client import PODS, Object
from shoal.cluster.kubelet.containers import PORT_IN_USE, CannotStart, LocalCommand, PodContext, local_command
from shoal.cluster.kubelet.host import Host, base_env
from shoal.cluster.kubelet.podstatus import ContainerFact, Terminated, pod_status, seconds_of
from shoal.cluster.kubelet.runner import Runner
from shoal.cluster.kubelet.volumes import Volumes
from shoal.cluster.network import taken_from_all

log = logging.getLogger(__name__)
FINALIZER = "shoal.dev/kubelet"
"""Keeps a deleted pod's object until its processes have ended in order."""
DEFAULT_GRACE = 30
_STATUS_RETRY_SECONDS = 1.0
_LEAST_TERM_SECONDS = 2.0


class PodWorker:
    """Runs one pod from when it is first seen until its object is gone."""

    def __init__(self, host: Host, pod: Object) -> None:
        self.name: str = pod["metadata"]["name"]
        self.uid: str = pod["metadata"].get("uid", "")
        self._host = host
        self._pod = pod
        self._directory = host.layout.pods / self.name
        self._restart = str(pod["spec"].get("restartPolicy") or "Always")
        self._started = time.time()
        self._ip = ""
        self._dirty = asyncio.Event()
        self._written: dict[str, Any] | None = None
        self._stop_wanted = asyncio.Event()
        self._stop_grace: float | None = None
        self._gone = False
        self._volumes = Volumes(
            list(pod["spec"].get("volumes") or ()),
            self._directory / "volumes",
            host.layout.pvcs,
            host.secrets.get,
            host.config_maps.get,
        )
        self._facts = [self._fact(spec) for spec in pod["spec"]["containers"]]
        self._runners: list[Runner] = []

    def _fact(self, spec: dict[str, Any]) -> ContainerFact:
        """A container as the object remembers it: one that ran under an earlier supervisor counts a restart."""
        fact = ContainerFact(spec["name"], str(spec.get("image", "")))
        for status in (self._pod.get("status") or {}).get("containerStatuses") or ():
            if status["name"] == fact.name:
                fact.restarts = int(status.get("restartCount", 0))
                state = status.get("state") or {}
                ran = state.get("running") or state.get("terminated")  # the latter if its end was still written down
                if ran:
                    fact.restarts += 1
                    started = seconds_of(ran["startedAt"])
                    fact.last = Terminated(-9, started, time.time(), "the cluster was stopped", "NodeShutdown")
        return fact

    # --- called by the kubelet -------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """A Secret, ConfigMap or claim changed: bring volumes up to date, wake containers that waited for it."""
        try:
            self._volumes.prepare()
        except (CannotStart, OSError) as error:
            log.debug("pod %s: %s", self.name, error)
        for runner in self._runners:
            runner.retry_now()

    def trim_logs(self) -> None:
        """Keep the containers' logs bounded."""
        for runner in self._runners:
            runner.trim_log()

    def want_stop(self, grace: float, *, gone: bool = False) -> None:
        """Stop the pod in order within `grace` seconds. `gone`: its object is gone already."""
        self._stop_grace = grace
        self._gone = gone
        self._stop_wanted.set()

    async def halt(self, grace: float) -> None:
        """End the processes without hooks, as the whole cluster stops; the object stays for the next start."""
        await asyncio.gather(*(runner.stop(grace) for runner in self._runners))

    async def run(self) -> None:
        """The pod's life."""
        try:
            if not await self._admit():
                return
            self._started = self._start_time()
            self._make_runners()
            async with asyncio.TaskGroup() as group:
                containers = [group.create_task(runner.run()) for runner in self._runners]
                writing = group.create_task(self._write_status())
                self._dirty.set()
                await self._stop_wanted.wait()
                await self._stop_containers()
                await asyncio.gather(*containers)
                writing.cancel()
            await self._finish()
        finally:
            self._host.addresses.release(self.name)

    # --- starting --------------------------------------------------------------------------------------------------

    async def _admit(self) -> bool:
        """Give the pod its address, directory and finalizer. False if it is to be stopped before it started."""
        while True:
            if self._pod["metadata"].get("deletionTimestamp") or self._stop_wanted.is_set():
                await self._finish()
                return False
            try:
                self._adopt_address()
                self._directory.mkdir(parents=True, exist_ok=True)
                await self._hold_object()
            except (ApiRequestError, ApiUnreachableError, ClusterError, OSError) as error:
                log.warning("pod %s cannot start yet: %s", self.name, error)
                await asyncio.sleep(_STATUS_RETRY_SECONDS)
                self._pod = self._host.pods.get(self.name) or self._pod
            else:
                return True

    def _adopt_address(self) -> None:
        before = (self._pod.get("status") or {}).get("podIP")
        if not (before and self._host.addresses.adopt(self.name, before)):
            self._host.addresses.give(self.name)
        self._ip = self._host.addresses.taken[self.name]

    async def _hold_object(self) -> None:
        metadata = self._pod["metadata"]
        finalizers = list(metadata.get("finalizers") or ())
        if FINALIZER in finalizers and self._pod["spec"].get("nodeName"):
            return
        if FINALIZER not in finalizers:
            patch: Object = {"metadata": {"finalizers": [*finalizers, FINALIZER]}}
            self._pod = await self._host.client.merge(PODS, self._host.namespace, self.name, patch)
            self._host.pods.put(self._pod)

    def _start_time(self) -> float:
        before = (self._pod.get("status") or {}).get("startTime")
        return seconds_of(before) if before else time.time()

    def _make_runners(self) -> None:
        for spec, fact in zip(self._pod["spec"]["containers"], self._facts, strict=True):
            self._runners.append(
                Runner(
                    spec,
                    fact,
                    ip=self._ip,
                    log_path=self._directory / f"{fact.name}.log",
                    restart=self._restart,
                    policy=self._host.policy,
                    resolve=lambda spec=spec: self._command(spec),  # type: ignore[misc]
                    changed=self._dirty.set,
                    report=self._report,
                )
            )

    def _command(self, spec: dict[str, Any]) -> LocalCommand:
        host = self._host
        instance = str(host.layout.root)
        if taken := taken_from_all(ports_of(self._pod), lambda pid: process.is_of(pid, instance)):
            raise CannotStart(
                PORT_IN_USE, f"{taken}: stop that program, or choose another port in the ServingRuntime of this pod"
            )
        context = PodContext(
            pod=self._pod,
            ip=self._ip,
            host_ip=host.subnet.control_plane,
            directory=str(self._directory),
            base_env=base_env(instance) | {"HOSTNAME": self.name},
            find_image=host.image,
            secret=host.secret,
            config_map=host.config_map,
            fixed_mounts=host.fixed_mounts,
        )
        return local_command(spec, context, self._volumes.prepare())

    async def _report(self, kind: str, reason: str, message: str) -> None:
        await self._host.event(self._pod, kind, reason, message)

    # --- status ----------------------------------------------------------------------------------------------------

    async def _write_status(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            before = self._written or self._pod.get("status") or {}
            status = pod_status(
                self._facts,
                ip=self._ip,
                host_ip=self._host.subnet.control_plane,
                started=self._started,
                now=time.time(),
                restart=self._restart,
                before=before,
            )
            if status == self._written:
                continue
            try:
                updated = await self._host.client.merge(
                    PODS, self._host.namespace, self.name, {"status": status}, "status"
                )
            except ApiRequestError as error:
                if error.code != 404:
                    await self._status_failed(error)
            except ApiUnreachableError as error:
                await self._status_failed(error)
            else:
                self._written = status
                self._host.pods.put(updated)
                self._host.wake()

    async def _status_failed(self, error: Exception) -> None:
        log.info("status of pod %s: %s", self.name, error)
        await asyncio.sleep(_STATUS_RETRY_SECONDS)
        self._dirty.set()

    # --- stopping --------------------------------------------------------------------------------------------------

    async def _stop_containers(self) -> None:
        """All preStop hooks first, then SIGTERM to all: one container's hook may need another that still runs."""
        grace = self._grace()
        deadline = time.monotonic() + grace
        await asyncio.gather(*(runner.prepare_stop(grace) for runner in self._runners))
        rest = max(_LEAST_TERM_SECONDS, deadline - time.monotonic())
        await asyncio.gather(*(runner.stop(rest) for runner in self._runners))

    def _grace(self) -> float:
        if self._stop_grace is not None:
            return self._stop_grace
        return float(self._pod["spec"].get("terminationGracePeriodSeconds") or DEFAULT_GRACE)

    async def _finish(self) -> None:
        """The processes have ended: forget the pod's files and let its object go."""
        await asyncio.to_thread(remove_tree, self._directory)
        while not self._gone:
            try:
                await self._release_object()
                return
            except (ApiRequestError, ApiUnreachableError) as error:
                log.warning("removing pod %s: %s", self.name, error)
                await asyncio.sleep(_STATUS_RETRY_SECONDS)

    async def _release_object(self) -> None:
        host = self._host
        current = await host.client.get(PODS, host.namespace, self.name)
        if current is None or current["metadata"].get("uid", "") != self.uid:
            return
        finalizers = [each for each in current["metadata"].get("finalizers") or () if each != FINALIZER]
        try:
            await host.client.merge(PODS, host.namespace, self.name, {"metadata": {"finalizers": finalizers or None}})
        except ApiRequestError as error:
            if error.code != 404:
                raise
        # A server that gives pods a grace period keeps the object until the kubelet says it is done.
        await host.client.delete(PODS, host.namespace, self.name, grace=0)


def remove_tree(directory: Path) -> None:
    """Remove a pod's directory. Claims mounted in it are not below it, and links are not followed."""
    shutil.rmtree(directory, ignore_errors=True)


def ports_of(pod: Object) -> list[int]:
    """The ports a pod's containers listen on, as far as its object tells: declared, probed, called or annotated."""
    found: set[str] = set()
    for container in pod["spec"]["containers"]:
        found |= {str(port["containerPort"]) for port in container.get("ports") or ()}
        actions = [container.get(probe) or {} for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
        actions.append((container.get("lifecycle") or {}).get("preStop") or {})
        asked = (action[how] for action in actions for how in ("httpGet", "tcpSocket") if how in action)
        found |= {str(each.get("port", "")) for each in asked}
    notes = pod["metadata"].get("annotations") or {}
    found |= {notes.get(f"shoal.dev/{what}-port", "") for what in ("management", "grpc", "http")}
    return sorted(int(port) for port in found if port.isdigit())
