"""Whole embedded clusters for end-to-end tests: started by the real command, asked by real clients, ended by it too."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from needs import need_program
from shoal.client import ShoalClient
from shoal.process import leftovers
from support.cli import Outcome, shoal

T = TypeVar("T")
DATA = Path(__file__).parents[1] / "e2e" / "data"
NAMESPACE = "modelmesh-serving"
SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  namespace: modelmesh-serving
  annotations:
    serving.kserve.io/deploymentMode: ModelMesh
spec:
  predictor:
    model:
      modelFormat:
        name: {format}
      storage:
        parameters:
          type: pvc
          name: {claim}
        path: {path}
"""


def service(name: str, path: str, claim: str = "my-models-pvc", model_format: str = "sklearn") -> str:
    """The manifest of an InferenceService whose model is on a claim."""
    return SERVICE.format(name=name, path=path, claim=claim, format=model_format)


def port_is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine's loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(preferred: int = 0) -> int:
    """The preferred port if it is free, else any."""
    if preferred and port_is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Cluster:
    """A running embedded cluster."""

    root: Path
    grpc_port: int
    rest_port: int

    @property
    def grpc(self) -> str:
        """The gateway's gRPC address."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def rest(self) -> str:
        """The gateway's REST address."""
        return f"http://127.0.0.1:{self.rest_port}"

    def shoal(self, *arguments: str, stdin: str = "", timeout: float = 150) -> Outcome:
        """Run the real command on this cluster."""
        return shoal(*arguments, state_dir=self.root, stdin=stdin, timeout=timeout)

    def must(self, *arguments: str, stdin: str = "") -> str:
        """What a command prints; it must succeed."""
        done = self.shoal(*arguments, stdin=stdin)
        assert done.code == 0, f"shoal {' '.join(arguments)}: {done.out}{done.err}"
        return done.out

    def environment(self) -> dict[str, str]:
        """What a user exports to work with this cluster by kubectl."""
        config = self.root / "e2e-kubeconfig"
        if not config.exists():
            config.write_text(self.must("kubeconfig"))
            config.chmod(0o600)
        return {**os.environ, "KUBECONFIG": str(config)}

    def run(self, *command: str, stdin: str = "", timeout: float = 60) -> Outcome:
        """Run any program as that user."""
        need_program(command[0])
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=timeout,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints; it must succeed."""
        done = self.run("kubectl", *arguments, stdin=stdin)
        assert done.code == 0, f"kubectl {' '.join(arguments)}: {done.out}{done.err}"
        return done.out

    def object(self, *what: str) -> dict[str, Any]:
        """One object of the API."""
        return json.loads(self.must("get", *what, "-o", "json"))

    def status(self, name: str) -> dict[str, Any]:
        """The status of an InferenceService; empty before it has one."""
        with ShoalClient.from_state_dir(self.root) as client:
            return (client.isvc(name) or {}).get("status") or {}

    def deploy(self, name: str, path: str, **more: str) -> None:
        """Declare a model and wait until it serves."""
        self.must("apply", "-f", "-", stdin=service(name, path, **more))
        self.must("wait", "isvc", name, "--for", "Loaded", "--timeout", "90s")

    def report(self) -> dict[str, Any]:
        """What the supervisor says about its parts."""
        return json.loads((self.root / "status.json").read_text())

    def part(self, name: str) -> int:
        """The pid of a part: apiserver, mesh or gateway."""
        return self.report()["parts"][name]["pid"]

    def admin(self, path: str) -> bytes:
        """What the mesh answers on its admin port."""
        with urllib.request.urlopen(self.report()["addresses"]["admin"] + path, timeout=10) as response:
            return response.read()

    def top(self) -> dict[str, Any]:
        """What the mesh says about its pods and models."""
        return json.loads(self.admin("/top"))

    def copies(self, name: str = "") -> list[dict[str, Any]]:
        """Loaded copies of an InferenceService, or of all."""
        found = json.loads(self.admin("/copies"))["copies"]
        mine = [copy for copy in found if not name or copy["revision"].startswith(f"{name}__")]
        return [copy for copy in mine if copy["state"] == "Loaded"]

    def containers(self) -> dict[tuple[str, str], int]:
        """Pids of what runs in pods, by pod and container."""
        found = {}
        for pid in leftovers(str(self.root)):
            with contextlib.suppress(OSError):
                environ = dict(
                    line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line
                )
                command = Path(f"/proc/{pid}/cmdline").read_text()
                if "POD_IP" in environ:
                    found[environ["POD_IP"], "adapter" if "shoal-adapter" in command else "server"] = pid
        return found

    def pod_ips(self) -> dict[str, str]:
        """Addresses of pods by name."""
        return {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in self.object("pods")["items"]}

    def processes(self) -> set[int]:
        """Every process of this cluster."""
        return set(leftovers(str(self.root)))

    def ready(self) -> bool:
        """Whether all parts are, by the supervisor's own account."""
        parts = self.report()["parts"]
        return all(part["state"] == "Ready" for part in parts.values())


def kill(pid: int) -> None:
    """End a process without a word."""
    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(root: Path, *options: str, grpc_port: int = 0, rest_port: int = 0) -> Iterator[Cluster]:
    """A cluster of its own, ended whatever happens. The ports are preferred ones."""
    cluster = Cluster(root, free_port(grpc_port), free_port(rest_port))
    ports = ["--grpc-port", str(cluster.grpc_port), "--rest-port", str(cluster.rest_port)]
    try:
        done = cluster.shoal("up", "--detach", *ports, *options)
        assert done.code == 0, done.err
        yield cluster
    finally:
        cluster.shoal("down")
    assert not cluster.processes(), "`shoal down` left processes"
