"""Starts the embedded API server and runs tiny pods, for tests of the local cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from shoal.cluster.errors import ApiUnreachableError
from shoal.cluster.kube_client import DEPLOYMENTS, PODS, KubeClient, Object, read_kubeconfig
from shoal.cluster.kubelet.kubelet import Kubelet
from shoal.cluster.layout import Layout
from shoal.cluster.network import Subnet, choose_subnet
from shoal.cluster.settings import API_PORT
from shoal.process import BackoffPolicy
from waiting import until

T = TypeVar("T")
NAMESPACE = "modelmesh-serving"
QUICK = BackoffPolicy(first=0.1, most=1.0, healthy_after=30.0)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@contextlib.contextmanager
def api_server(root: Path) -> Iterator[Subnet]:
    """A real embedded API server whose files are below `root`."""
    layout = Layout(root)
    layout.create()
    subnet = choose_subnet(root, [API_PORT])
    log = (root / "logs" / "apiserver.log").open("ab")
    command = [sys.executable, "-m", "shoal.apiserver", "--state-dir", str(root), "--host", subnet.control_plane]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=root, env=dict(os.environ))
    try:
        _await_ready(layout, process)
        yield subnet
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _await_ready(layout: Layout, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, (layout.logs / "apiserver.log").read_text()
        with contextlib.suppress(ApiUnreachableError, httpx.HTTPError):
            credentials = read_kubeconfig(layout.kubeconfig)
            response = httpx.get(
                credentials.server + "/readyz", verify=credentials.verify, headers=dict(credentials.headers or {})
            )
            if response.is_success:
                return
        time.sleep(0.05)
    raise AssertionError("the API server did not become ready")


def python(code: str, **more: Any) -> dict[str, Any]:
    """A container that runs a Python one-liner."""
    return {"name": "main", "image": "none", "command": ["python", "-u", "-c", code], **more}


SLEEP = "import time; print('up', flush=True); time.sleep(1000)"


class Cluster:
    """An API server with a kubelet in this process."""

    def __init__(self, client: KubeClient, layout: Layout, subnet: Subnet) -> None:
        self.client = client
        self.layout = layout
        self.subnet = subnet

    async def deploy(self, name: str, *containers: dict[str, Any], replicas: int = 1, **spec: Any) -> Object:
        """Create or replace a Deployment."""
        labels = {"app": name}
        body: Object = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 5, **spec.pop("pod", {})},
                },
                **spec,
            },
        }
        existing = await self.client.get(DEPLOYMENTS, NAMESPACE, name)
        if existing is None:
            return await self.client.create(DEPLOYMENTS, NAMESPACE, body)
        return await self.client.merge(DEPLOYMENTS, NAMESPACE, name, {"spec": body["spec"]})

    async def pods(self, app: str) -> list[Object]:
        """Pods of a Deployment."""
        found, _ = await self.client.list(PODS, NAMESPACE, f"app={app}")
        return found

    async def ready(self, app: str, count: int = 1) -> list[Object]:
        """Wait until a Deployment has exactly so many pods, all ready."""

        async def look() -> tuple[list[Object]] | None:
            pods = await self.pods(app)
            return (pods,) if len(pods) == count and all(is_ready(pod) for pod in pods) else None

        (pods,) = await until(look, f"{count} ready pods of {app}")
        return pods

    async def settled(self, app: str, judge: Callable[[Object], bool], what: str) -> Object:
        """Wait until one pod of a Deployment satisfies `judge`."""

        async def look() -> Object | None:
            pods = [pod for pod in await self.pods(app) if "containerStatuses" in (pod.get("status") or {})]
            return next((pod for pod in pods if judge(pod)), None)

        return await until(look, what)

    def log(self, pod: Object, container: str = "main") -> str:
        """A container's log."""
        return (self.layout.pods / pod["metadata"]["name"] / f"{container}.log").read_text()


@contextlib.asynccontextmanager
async def cluster(root: Path, subnet: Subnet) -> AsyncIterator[Cluster]:
    """A kubelet on a running API server."""
    layout = Layout(root)
    async with KubeClient(read_kubeconfig(layout.kubeconfig)) as client:
        kubelet = asyncio.create_task(Kubelet(client, layout, subnet, NAMESPACE, policy=QUICK, stop_grace=2.0).run())
        try:
            yield Cluster(client, layout, subnet)
        finally:
            kubelet.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await kubelet


def is_ready(pod: Object) -> bool:
    """The pod's Ready condition."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def container_of(pod: Object, name: str = "main") -> dict[str, Any]:
    """A container's status."""
    return next(c for c in pod["status"]["containerStatuses"] if c["name"] == name)


def pid_of(pod: Object, name: str = "main") -> int:
    """A running container's pid."""
    return int(container_of(pod, name)["containerID"].removeprefix("process://"))
