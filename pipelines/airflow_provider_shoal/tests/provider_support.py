"""Manifests for the provider's tests."""

from __future__ import annotations

from typing import Any


def manifest(name: str, model: str, **rollout: Any) -> dict[str, Any]:
    """An InferenceService that serves one of the claim's models."""
    storage = {"parameters": {"type": "pvc", "name": "models"}, "path": f"{model}.joblib"}
    spec: dict[str, Any] = {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storage": storage}}}
    return {"metadata": {"name": name}, "spec": {**spec, **({"rollout": rollout} if rollout else {})}}


KEEP_NONE: dict[str, Any] = {"strategy": "canary", "keepRevisions": 0}
"""Going back to a kept revision takes no steps, so nothing could be seen of them."""
QUICK = {**KEEP_NONE, "steps": [{"setWeight": 50}]}
WAITING = {**KEEP_NONE, "steps": [{"setWeight": 50}, {"pause": {}}]}
