"""Start the real embedded API server as a process, and talk to it with real clients."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from needs import need

NAMESPACE = "modelmesh-serving"
SERVICES = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


class ApiServer:
    """One server process on a free loopback port."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.process: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.state_dir / "kubeconfig"

    @property
    def url(self) -> str:
        return yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]

    @property
    def token(self) -> str:
        return (self.state_dir / "token").read_text()

    @property
    def last_port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def start(self, port: int = 0, changes: int | None = None) -> ApiServer:
        """Start the server; `changes` shortens the log that watches resume from."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.kubeconfig.unlink(missing_ok=True)
        with (self.state_dir / "log").open("ab") as log:
            command = [sys.executable, "-m", "shoal.apiserver", "--state-dir", str(self.state_dir), "--port", str(port)]
            if changes is not None:
                command += ["--history", str(changes)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if self.kubeconfig.exists() and self._answers():
                return self
            time.sleep(0.02)
        raise AssertionError(f"the server did not start:\n{(self.state_dir / 'log').read_text()}")

    def _answers(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def http(self) -> httpx.Client:
        if self._client is None:
            context = ssl.create_default_context(cafile=str(self.state_dir / "tls" / "ca.crt"))
            headers = {"authorization": f"Bearer {self.token}"}
            self._client = httpx.Client(base_url=self.url, verify=context, headers=headers, timeout=20, trust_env=False)
        return self._client

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self._client is not None:
            self._client.close()
            self._client = None
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(20)

    def kubectl(self, *arguments: str, stdin: str = "", fails: bool = False, env: dict[str, str] | None = None) -> str:
        """Run kubectl; return its output (with `fails`: its errors, and it must fail)."""
        done = subprocess.run(
            self.kubectl_command(*arguments),
            input=stdin,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"kubectl {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stderr if fails else done.stdout

    def kubectl_command(self, *arguments: str) -> list[str]:
        need("kubectl")
        cache = str(self.state_dir / "kubectl-cache")
        return ["kubectl", "--kubeconfig", str(self.kubeconfig), "--cache-dir", cache, *arguments]

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put_status(self, path: str, status: dict[str, Any]) -> None:
        answer = self.http.patch(
            f"{path}/status",
            content=json.dumps({"status": status}),
            headers={"content-type": "application/merge-patch+json"},
        )
        assert answer.status_code == 200, answer.text


def isvc(name: str = "sklearn-mnist", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"},
            **metadata,
        },
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "sklearn"},
                    "storage": {"parameters": {"type": "pvc", "name": "my-models-pvc"}, "path": "mnist-svm.joblib"},
                }
            }
        },
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


def deployment(name: str = "web", replicas: int = 2) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "mlserver:1", "env": [{"name": "A", "value": "1"}]}]},
            },
        },
    }


def pod(name: str, owner: dict[str, Any]) -> dict[str, Any]:
    reference = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": owner["metadata"]["name"]}, "ownerReferences": [reference]},
        "spec": {"containers": [{"name": "main", "image": "mlserver:1"}, {"name": "adapter", "image": "x"}]},
    }
