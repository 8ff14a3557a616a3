"""Manifests for the tests of resources and of the controller."""

from pathlib import Path
from typing import Any

import yaml

_DATA = Path(__file__).parents[1] / "resources" / "data"
_ROLLOUTS = Path(__file__).parents[2] / "examples" / "rollouts"
MODE = {"serving.kserve.io/deploymentMode": "ModelMesh"}


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((_DATA / f"{name}.yaml").read_text())
    return document


def rollout_example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((_ROLLOUTS / f"{name}.yaml").read_text())
    return document


def isvc(name: str = "m", *, predictor: dict[str, Any] | None = None, **annotations: str) -> dict[str, Any]:
    default = {"model": {"modelFormat": {"name": "sklearn"}, "storage": {"key": "k", "path": "m.joblib"}}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "annotations": MODE | {f"serving.kserve.io/{key}": value for key, value in annotations.items()},
        },
        "spec": {"predictor": default if predictor is None else predictor},
    }


def model(name: str = "sklearn", **fields: Any) -> dict[str, Any]:
    return {"model": {"modelFormat": {"name": name}, **fields}}


def runtime(name: str = "r", formats: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name},
        "spec": {
            "multiModel": True,
            "supportedModelFormats": formats or [{"name": "sklearn", "version": "1", "autoSelect": True}],
            "grpcEndpoint": "port:8085",
            "containers": [{"name": "server", "image": "example/server:1"}],
            **spec,
        },
    }
