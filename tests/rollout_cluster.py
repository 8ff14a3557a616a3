"""A whole embedded cluster with small real models to roll out, for tests of the client and of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

from support.cli import free_ports, shoal

VERSIONS = 6
REQUEST = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [[0.5, -0.5]]}]}


@contextmanager
def cluster(root: Path) -> Iterator[Path]:
    """The state directory of a running cluster with a volume `models` that holds `v0.joblib` and so on."""
    grpc, rest = free_ports(2)
    options = ("--grpc-port", str(grpc), "--rest-port", str(rest), "--pods-per-runtime", "1")
    up = shoal("up", "--detach", *options, state_dir=root)
    try:
        assert up.code == 0, up.err
        fill(root)
        yield root
    finally:
        shoal("down", state_dir=root)


def fill(root: Path) -> None:
    """Make the volume with the models."""
    models = root / "models"
    models.mkdir()
    points = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    for version in range(VERSIONS):
        joblib.dump(LogisticRegression(C=1.0 + version).fit(points, [0, 1, 1, 0]), models / f"v{version}.joblib")
    done = shoal("pvc", "create", "models", "--from", str(models), state_dir=root)
    assert done.code == 0, done.err


def service(name: str, version: int | str, rollout: dict[str, Any] | None = None, **annotations: str) -> dict[str, Any]:
    """An InferenceService of a version of the model."""
    storage = {"parameters": {"type": "pvc", "name": "models"}, "path": f"v{version}.joblib"}
    spec: dict[str, Any] = {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storage": storage}}}
    if rollout is not None:
        spec["rollout"] = rollout
    notes = {"serving.kserve.io/deploymentMode": "ModelMesh"} | annotations
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": notes},
        "spec": spec,
    }


def apply(root: Path, manifest: dict[str, Any]) -> None:
    """`shoal apply` of a manifest."""
    done = shoal("apply", "-f", "-", state_dir=root, stdin=json.dumps(manifest))
    assert done.code == 0, done.err
