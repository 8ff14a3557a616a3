import asyncio
import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from shoal.controller.kube import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    ISVC,
    POD,
    RUNTIME,
    Document,
    Kube,
    Resource,
    connect,
)
from shoal.controller.main import run
from shoal.controller.settings import ControllerSettings
from speeds import starts_server
from support.controller import RecordingMesh

NAMESPACE = "modelmesh-serving"


@dataclass
class ApiServer:
    """The embedded API server as a process."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def start(self) -> None:
        self.kubeconfig.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "shoal.apiserver",
            "--state-dir",
            str(self.directory),
            "--port",
            str(self.port),
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.05)
        raise AssertionError((self.directory / "log").read_text())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        if not self.kubeconfig.exists():
            return False
        try:
            connection = connect(self.kubeconfig)
            client.CoreV1Api(connection).list_namespace(_request_timeout=2)
        except Exception:
            return False
        self.port = int(connection.configuration.host.rpartition(":")[2])
        return True


@dataclass
class Bench:
    """A controller with a mesh that remembers, against the real API."""

    api: ApiServer
    mesh: RecordingMesh
    kube: Kube
    connection: client.ApiClient
    task: asyncio.Task[None] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    async def control(self, **settings: Any) -> None:
        """Start the controller and wait until it handed everything over."""
        self.settings = settings or self.settings
        options = ControllerSettings(namespace=NAMESPACE, kubeconfig=self.api.kubeconfig, **self.settings)
        self.mesh.is_synced.clear()
        self.task = asyncio.create_task(run(options, self.mesh))
        synced = asyncio.create_task(self.mesh.is_synced.wait())
        await asyncio.wait({self.task, synced}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert synced.done(), self.task

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    async def get(self, resource: Resource, name: str, namespace: str = NAMESPACE) -> Document | None:
        path = resource.path(namespace, name)
        try:
            return await asyncio.to_thread(self._get, path)
        except client.exceptions.NotFoundException:
            return None

    async def list(self, resource: Resource, namespace: str = NAMESPACE) -> list[Document]:
        return (await asyncio.to_thread(self._get, resource.path(namespace)))["items"]

    async def apply(self, resource: Resource, document: Document) -> Document:
        return await self.kube.apply(resource, document)

    async def configure(self, text: str) -> None:
        await self.apply(
            CONFIG_MAP,
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "model-serving-config", "namespace": NAMESPACE},
                "data": {"config.yaml": text},
            },
        )

    def _get(self, path: str) -> Any:
        return self.connection.call_api(
            path,
            "GET",
            header_params={"Accept": "application/json"},
            response_types_map={200: "object"},
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
        )


async def _bench(server):
    connection = connect(server.kubeconfig)
    return Bench(server, RecordingMesh(), Kube(connection, NAMESPACE), connection)


@pytest.fixture(scope="module")
@starts_server
def api(tmp_path_factory):
    server = ApiServer(tmp_path_factory.mktemp("apiserver"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def bench(api):
    """One API server serves all tests of a module; each test begins without objects."""
    found = await _bench(api)
    yield found
    await found.stop()
    for resource in (ISVC, RUNTIME, CONFIG_MAP, DEPLOYMENT, POD, EVENT):
        for document in await found.list(resource):
            await found.kube.delete(resource, document["metadata"]["name"])
    found.kube.close()
