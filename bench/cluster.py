"""The embedded cluster under measurement, as `shoal up` starts it, with scikit-learn models on a claim."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.processes import free_port

NAMESPACE = "modelmesh-serving"
CLAIM = "bench-models"
FEATURES = 64
START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where it is asked, and where it is looked at."""

    state: Path
    port: int
    """Where clients send gRPC."""
    admin: httpx.AsyncClient


@contextlib.asynccontextmanager
async def cluster(folder: Path, artifacts: Path, models: dict[str, str], *options: str) -> AsyncIterator[Cluster]:
    """A cluster that serves models, of which each is a file below `artifacts`; `options` are those of `shoal up`."""
    state, port = folder / "state", free_port()
    try:
        await _shoal(state, "up", "--detach", "--grpc-port", str(port), "--rest-port", str(free_port()), *options)
        await _shoal(state, "pvc", "create", CLAIM, "--from", str(artifacts))
        manifests = folder / "manifests.yaml"
        manifests.write_text(yaml.safe_dump_all(_manifest(name, file) for name, file in models.items()))
        await _shoal(state, "apply", "-f", str(manifests))
        address = json.loads((state / "status.json").read_text())["addresses"]["admin"]
        async with httpx.AsyncClient(base_url=address, trust_env=False) as admin:
            yield Cluster(state, port, admin)
    finally:
        await _shoal(state, "down")


async def _shoal(state: Path, *arguments: str) -> None:
    program = shutil.which("shoal", path=str(Path(sys.executable).parent)) or "shoal"
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "--state-dir", str(state),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(START_SECONDS):
        output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"shoal {' '.join(arguments)} failed:\n{output.decode()}")


def _manifest(name: str, file: str) -> dict[str, Any]:
    model = {
        "modelFormat": {"name": "sklearn"},
        "storage": {"parameters": {"type": "pvc", "name": CLAIM}, "path": file},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"},
        },
        "spec": {"predictor": {"model": model}},
    }


def train(folder: Path) -> list[str]:
    """Four models for rows of `FEATURES` values, as files."""
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    data = load_digits()
    models = {
        "svm": SVC(gamma=0.001),
        "forest": RandomForestClassifier(30, random_state=0),
        "logistic": LogisticRegression(max_iter=200),
        "neighbours": KNeighborsClassifier(),
    }
    for name, model in models.items():
        joblib.dump(model.fit(data.data / 16, data.target), folder / f"{name}.joblib")
    return [f"{name}.joblib" for name in models]
