"""The first three assets: `training_data`, `trained_model`, `validated_model`."""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shoal import plots
from dagster_shoal.config import TrainConfig
from dagster_shoal.datafiles import load_dataset
from dagster_shoal.drafts import DATA_FILE
from dagster_shoal.history import upstream
from dagster_shoal.model import Evaluation, ModelDefinition, Rows
from dagster_shoal.packaging import fetch, size_of, trustworthy
from dagster_shoal.resource import ShoalResource
from dagster_shoal.serving import Serving, serving_now
from dagster_shoal.stages import Stage
from dagster_shoal.steps import DATA, DRAFT, Pipeline, told
from dagster_shoal.store import ModelStore

EVALUATION = "evaluation.json"


def training_data(pipeline: Pipeline) -> dg.AssetsDefinition:
    """Loads the examples and keeps them."""
    spec = pipeline.specs[Stage.TRAINING_DATA]

    @dg.multi_asset(name=pipeline.layout.op(Stage.TRAINING_DATA), specs=[spec])
    def load(context: dg.AssetExecutionContext, model_store: ModelStore) -> dg.MaterializeResult[Any]:
        model = pipeline.model(context)
        data = model.load_data()
        with told():
            folder = pipeline.drafts(context, model_store).add_data(data)
        columns = [
            dg.TableColumn(name, f"{tensor.dtype} {list(tensor.shape[1:])}")
            for name, tensor in data.train.inputs.items()
        ]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(folder.id),
            metadata={
                DATA: folder.id,
                "dagster/row_count": len(data.train) + len(data.test),
                "train_rows": len(data.train),
                "test_rows": len(data.test),
                "dagster/column_schema": dg.TableSchema(columns),
            },
        )

    return load


def trained_model(pipeline: Pipeline) -> dg.AssetsDefinition:
    """Trains, and keeps the model as files in a new draft."""
    spec = pipeline.specs[Stage.TRAINED_MODEL]

    @dg.multi_asset(name=pipeline.layout.op(Stage.TRAINED_MODEL), specs=[spec])
    def train(
        context: dg.AssetExecutionContext, config: TrainConfig, model_store: ModelStore
    ) -> dg.MaterializeResult[Any]:
        model = pipeline.model(context)
        data_id = str(upstream(context, pipeline.key(Stage.TRAINING_DATA)).get(DATA, ""))
        parameters = {**model.parameters, **config.parameters}
        with told():
            drafts = pipeline.drafts(context, model_store)
            data = drafts.data(data_id).path / DATA_FILE
        draft = drafts.new(context.run.run_id[:8])
        started = time.monotonic()
        if model.trainer is not None:
            told_by_trainer = model.trainer.run(context, data=data, into=draft.payload, parameters=parameters)
        else:
            told_by_trainer = {}
            model.save(model.train(load_dataset(data), parameters), draft.payload)
        seconds = time.monotonic() - started
        about = {"data": data_id, "parameters": parameters}
        (draft.path / "trained.json").write_text(json.dumps(about, default=str))
        return dg.MaterializeResult(
            metadata={
                **told_by_trainer,
                DRAFT: draft.id,
                DATA: data_id,
                "parameters": dg.MetadataValue.json(json.loads(json.dumps(parameters, default=str))),
                "training_seconds": round(seconds, 3),
                "size_bytes": size_of(draft.payload),
                "files": dg.MetadataValue.path(draft.payload),
            }
        )

    return train


def validated_model(pipeline: Pipeline) -> dg.AssetsDefinition:
    """Evaluates the model and, on the same rows, the one that serves now."""
    spec = pipeline.specs[Stage.VALIDATED_MODEL]

    @dg.multi_asset(name=pipeline.layout.op(Stage.VALIDATED_MODEL), specs=[spec])
    def evaluate(
        context: dg.AssetExecutionContext, shoal: ShoalResource, model_store: ModelStore
    ) -> dg.MaterializeResult[Any]:
        model = pipeline.model(context)
        with told():
            draft = pipeline.draft(context, model_store, Stage.TRAINED_MODEL)
            trained = json.loads((draft.path / "trained.json").read_text())
            rows = pipeline.drafts(context, model_store).load_data(trained["data"]).test
            evaluation = model.evaluate(model.load(draft.payload), rows)
            champion, why_none = _champion(model, shoal, model_store, rows) if "champion" in model.gates else (None, "")
        found = {"metrics": _plain(evaluation.metrics), "champion": champion, "why_none": why_none}
        (draft.path / EVALUATION).write_text(json.dumps(found))
        return dg.MaterializeResult(metadata={DRAFT: draft.id, **_shown(evaluation, champion, why_none)})

    return evaluate


def _champion(
    model: ModelDefinition, shoal: ShoalResource, store: ModelStore, rows: Rows
) -> tuple[dict[str, float] | None, str]:
    """Metrics of the serving model on these rows, or why there are none."""
    opened = store.open()
    with shoal.client() as client:
        serving = serving_now(client, opened, model.name, model.service)
    if serving.package is None:
        return None, serving.why_none
    if why := trustworthy(serving.package, store.trusted()):
        return dict(serving.package.about.metrics), f"by its own manifest, since it is not loaded: {why}"
    return _evaluated(model, serving, rows), f"package {serving.package.digest[:12]}"


def _evaluated(model: ModelDefinition, serving: Serving, rows: Rows) -> dict[str, float]:
    assert serving.package is not None
    with tempfile.TemporaryDirectory(prefix="shoal-champion-") as scratch:
        fetch(serving.package, Path(scratch))
        return _plain(model.evaluate(model.load(Path(scratch)), rows).metrics)


def _plain(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _shown(evaluation: Evaluation, champion: dict[str, float] | None, why_none: str) -> dict[str, Any]:
    """Numbers, which the UI plots over time, and pictures."""
    metrics = _plain(evaluation.metrics)
    shown: dict[str, Any] = dict(metrics)
    if champion is not None:
        shown |= {f"champion_{name}": value for name, value in champion.items()}
    groups = {"challenger": metrics} | ({} if champion is None else {"champion": champion})
    shown["metrics_plot"] = plots.bars(groups, "on the test rows")
    shown["champion"] = why_none or "not compared"
    if evaluation.confusion is not None:
        shown["confusion_matrix"] = plots.confusion(evaluation.confusion, evaluation.labels)
    if evaluation.curves:
        shown["curves"] = plots.curves(evaluation.curves)
    return shown
