"""The first three assets: `training_data`, `trained_model`, `validated_model`."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg
from dagster_shoal import plots
from dagster_shoal.config import TrainConfig
from dagster_shoal.datafiles import load_dataset
from dagster_shoal.drafts import DATA_FILE
from dagster_shoal.gates import Champion
from dagster_shoal.history import upstream
from dagster_shoal.model import Evaluation, ModelDefinition, Rows
from dagster_shoal.packaging import size_of
from dagster_shoal.resource import ShoalResource
from dagster_shoal.serving import UNSEEN, nothing_serves, serving_package
from dagster_shoal.stages import Stage
from dagster_shoal.steps import DATA, DRAFT, Pipeline, last_words, told
from dagster_shoal.store import ModelStore
from shoal.package.transfer import fetched

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
            champion = Champion("the model does not have this gate")
            if "champion" in model.gates:
                try:
                    champion = _champion(model, shoal, model_store, rows)
                except UNSEEN as error:
                    champion = Champion("could not be looked at", unseen=last_words(error, context.retry_number))
            evaluation = model.evaluate(model.load(draft.payload), rows)
        found = {"metrics": _plain(evaluation.metrics), "champion": asdict(champion)}
        (draft.path / EVALUATION).write_text(json.dumps(found))
        return dg.MaterializeResult(metadata={DRAFT: draft.id, **_shown(evaluation, champion)})

    return evaluate


def _champion(model: ModelDefinition, shoal: ShoalResource, store: ModelStore, rows: Rows) -> Champion:
    """The serving model on these rows. Raises one of `UNSEEN`."""
    with shoal.client() as client:
        package = serving_package(client, store.open(), store.trusted(), model.name, model.service)
    if package is None:
        return Champion(nothing_serves(model.service))
    with fetched(package) as files:
        metrics = _plain(model.evaluate(model.load(files), rows).metrics)
    return Champion(f"package {package.digest[:12]}", metrics)


def _plain(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _shown(evaluation: Evaluation, champion: Champion) -> dict[str, Any]:
    """Numbers, which the UI plots over time, and pictures."""
    metrics = _plain(evaluation.metrics)
    shown: dict[str, Any] = dict(metrics)
    groups = {"challenger": metrics}
    if champion.metrics is not None:
        shown |= {f"champion_{name}": value for name, value in champion.metrics.items()}
        groups["champion"] = champion.metrics
    shown["metrics_plot"] = plots.bars(groups, "on the test rows")
    shown["champion"] = f"{champion.which}: {champion.unseen}" if champion.unseen else champion.which
    if evaluation.confusion is not None:
        shown["confusion_matrix"] = plots.confusion(evaluation.confusion, evaluation.labels)
    if evaluation.curves:
        shown["curves"] = plots.curves(evaluation.curves)
    return shown
