"""A tiny model for tests of the Dagster assets, and ways to run them and to read what they recorded."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import dagster as dg
from dagster_shoal import (
    DataGate,
    Dataset,
    Evaluation,
    LocalModelStore,
    MetricGate,
    ModelDefinition,
    Rows,
    ShoalResource,
    build_model_definitions,
)
from dagster_shoal.model import Gate
from shoal_digits import ShadeTable

OFFLINE: tuple[Gate, ...] = ("data", "metrics", "scan", "signature", "budget")
"""Gates that need no cluster."""


def load() -> Dataset:
    """Two clouds of points, one to the left and one to the right."""
    points = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    target = (np.arange(80) % 2).astype(np.int64)
    points[:, 0] += 6 * target
    return Dataset(Rows({"points": points[:60]}, target[:60]), Rows({"points": points[60:]}, target[60:]))


def train(data: Dataset, parameters: Any) -> Any:
    """A stump; `upside_down`: one that is always wrong; `brittle`: one that fails on points it does not know."""
    from sklearn.pipeline import Pipeline
    from sklearn.tree import DecisionTreeClassifier

    target = 1 - data.train.target if parameters.get("upside_down") else data.train.target
    points = data.train.inputs["points"]
    tree = DecisionTreeClassifier(max_depth=1, random_state=parameters.get("seed", 0)).fit(points, target)
    known = ShadeTable().fit(np.concatenate([points, data.test.inputs["points"]]))
    return Pipeline([("known", known), ("tree", tree)]) if parameters.get("brittle") else tree


def evaluate(model: Any, rows: Rows) -> Evaluation:
    """Its accuracy."""
    right = model.predict(rows.inputs["points"]) == rows.target
    counts = np.array([[int((rows.target == 0).sum()), 0], [0, int((rows.target == 1).sum())]])
    return Evaluation({"accuracy": float(right.mean())}, counts, ("left", "right"))


def stump(name: str = "stump", gates: tuple[Gate, ...] = OFFLINE, **more: Any) -> ModelDefinition:
    """The model."""
    settings: dict[str, Any] = {
        "code_version": "7",
        "owners": ("team:tests",),
        "metric_gates": (MetricGate("accuracy", 0.9, min_absolute_change=-0.05),),
        "data_gate": DataGate(min_rows=10),
        "samples": 4,
        "trusted_names": ("shoal_digits:ShadeTable",),
        **more,
    }
    return ModelDefinition(name=name, load_data=load, train=train, evaluate=evaluate, gates=gates, **settings)


def definitions(state_dir: Path, *models: ModelDefinition, **more: Any) -> dg.Definitions:
    """Assets, checks and jobs for a state directory."""
    shoal: dict[str, Any] = more.pop("shoal", {})
    return build_model_definitions(
        models or (stump(),),
        resources={
            "shoal": ShoalResource(state_dir=str(state_dir), **shoal),
            "model_store": LocalModelStore(state_dir=str(state_dir), work_dir=str(state_dir / "work")),
        },
        **more,
    )


def run(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    selection: list[str] | None = None,
    *,
    partition: str | None = "stump",
    config: dict[str, Any] | None = None,
    job: str = "__ASSET_JOB",
) -> dg.ExecuteInProcessResult:
    """Materialize assets by key, with their checks; or run a job. Failures are for the caller to look at."""
    chosen = [dg.AssetKey.from_user_string(key) for key in selection] if selection else None
    return defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=partition,
        asset_selection=chosen,
        run_config={"ops": {op: {"config": values} for op, values in (config or {}).items()}},
        raise_on_error=False,
    )


class Traffic:
    """Callers of a model, as long as the block lasts, who mostly send points nobody has seen in training."""

    def __init__(self, url: str, every: float = 0.02) -> None:
        self.answers: Counter[int] = Counter()
        self._url = url
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _play(self) -> None:
        strange = {"name": "points", "datatype": "FP32", "shape": [1, 2], "data": [100.0, 100.0]}
        with httpx.Client(timeout=30) as client:
            while not self._stop.wait(self._every):
                self.answers[client.post(self._url, json={"inputs": [strange]}).status_code] += 1


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What an asset recorded in a run, by name."""
    key = dg.AssetKey.from_user_string(asset)
    (found,) = [m for events in [result.get_asset_materialization_events()] for m in events if m.asset_key == key]
    return {name: value.value for name, value in found.materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult) -> Any:
    """The failure of the one step that failed."""
    (found,) = [event for event in result.all_events if event.is_step_failure]
    return found.step_failure_data


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Checks of a run by name: whether they passed."""
    return {found.check_name: found.passed for found in result.get_asset_check_evaluations()}
