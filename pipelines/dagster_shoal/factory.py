"""Builds the assets, checks and jobs of models.

from dagster_shoal import LocalModelStore, ModelDefinition, ShoalResource, build_model_definitions

defs = build_model_definitions(
    [ModelDefinition(name="fraud", load_data=load, train=train, evaluate=evaluate)],
    resources={"shoal": ShoalResource(), "model_store": LocalModelStore()},
)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import dagster as dg
from dagster_shoal.checks import build_checks
from dagster_shoal.config import RolloutConfig
from dagster_shoal.jobs import AssetJob, build_asset_jobs, build_steering_jobs
from dagster_shoal.model import GATES, Catalogue, ModelDefinition
from dagster_shoal.publishing import model_package, published_model
from dagster_shoal.rolling import rollout
from dagster_shoal.stages import Stage, StageLayout, find_model
from dagster_shoal.steps import Pipeline
from dagster_shoal.strategy import sound
from dagster_shoal.training import trained_model, training_data, validated_model
from dagster_shoal.translator import ShoalProps, ShoalTranslator
from dagster_shoal.verifying import serving_endpoint

LayoutName = Literal["partitions", "assets"]


@dataclass(frozen=True)
class ModelAssets:
    """The assets and checks of one model, or of all models by partition."""

    pipeline: Pipeline
    assets: tuple[dg.AssetsDefinition, ...]
    checks: tuple[dg.AssetChecksDefinition, ...]
    jobs: Mapping[AssetJob, Any]
    """`retrain` and `rollout`."""

    def key(self, stage: Stage) -> dg.AssetKey:
        """Of a stage's asset."""
        return self.pipeline.key(stage)

    def service_of(self, name: str) -> str:
        """The InferenceService of a model of the catalogue by the model's name. Raises `Failure` if there is none."""
        return find_model(self.pipeline.layout.catalogue, name).service


def build_model_assets(
    models: Sequence[ModelDefinition] | Catalogue,
    *,
    layout: LayoutName = "partitions",
    translator: ShoalTranslator | None = None,
    freshness_policy: dg.FreshnessPolicy | None = None,
    kinds: Sequence[str] = ("sklearn",),
    rollout_form: type[RolloutConfig] = RolloutConfig,
) -> list[ModelAssets]:
    """The seven assets and their checks: once, partitioned by model name, or once a model.

    Args:
        models: all of them; or, with `partitions` only, a function that finds one by name.
        freshness_policy: of `serving_endpoint`.
        rollout_form: `RolloutConfig`, or `rollout_form(...)` with other defaults.
        kinds: model formats to show icons of, where `models` is a function.

    Raises:
        ValueError: two models have one name, `assets` is asked of a function, or the form's defaults contradict
            each other.
    """
    try:
        sound(rollout_form)
    except ValueError as error:
        raise ValueError(f"rollout_form: {error}") from None
    translator = translator or ShoalTranslator()
    if callable(models):
        if layout == "assets":
            raise ValueError('models: is a function, which knows no list of models; give the list, or use "partitions"')
        layouts, common = [StageLayout(models)], ShoalProps(Stage.TRAINING_DATA, None, tuple(kinds))
    else:
        catalogue = catalogue_of(models)
        layouts = (
            [StageLayout(catalogue)] if layout == "partitions" else [StageLayout(catalogue, model) for model in models]
        )
        common = _in_common(models)
    return [_assets(each, translator, freshness_policy, common, rollout_form) for each in layouts]


def _in_common(models: Sequence[ModelDefinition]) -> ShoalProps:
    """What is shown on assets that are about all of these models."""
    versions = {model.code_version for model in models}
    return ShoalProps(
        Stage.TRAINING_DATA,
        None,
        formats=tuple(sorted({model.format for model in models})),
        owners=tuple(sorted({owner for model in models for owner in model.owners})),
        code_version=versions.pop() if len(versions) == 1 else "",
    )


def catalogue_of(models: Sequence[ModelDefinition]) -> Catalogue:
    """Finds one of these by name.

    Raises:
        ValueError: two have one name.
    """
    known = {model.name: model for model in models}
    if len(known) < len(models):
        raise ValueError(f"models: names must differ, but are {sorted(model.name for model in models)}")

    def find(name: str) -> ModelDefinition:
        if name not in known:
            raise KeyError(f"known are {', '.join(sorted(known)[:20])}")
        return known[name]

    return find


def _assets(
    layout: StageLayout,
    translator: ShoalTranslator,
    freshness: dg.FreshnessPolicy | None,
    common: ShoalProps,
    rollout_form: type[RolloutConfig],
) -> ModelAssets:
    specs = {stage: translator.get_asset_spec(replace(common, stage=stage, model=layout.only)) for stage in Stage}
    linked = {stage: _linked(stage, specs, layout) for stage in Stage}
    pipeline = Pipeline(layout, linked, rollout_form)
    assets = (
        training_data(pipeline),
        trained_model(pipeline),
        validated_model(pipeline),
        model_package(pipeline),
        published_model(pipeline),
        rollout(pipeline),
        serving_endpoint(pipeline, freshness),
    )
    gates = layout.only.gates if layout.only else GATES
    return ModelAssets(pipeline, assets, tuple(build_checks(pipeline, gates)), build_asset_jobs(pipeline))


def _linked(stage: Stage, specs: Mapping[Stage, dg.AssetSpec], layout: StageLayout) -> dg.AssetSpec:
    """With its place in the graph, and its partitions."""
    before = [specs[stage.upstream].key] if stage.upstream else []
    spec = specs[stage].merge_attributes(deps=before)
    return spec.replace_attributes(partitions_def=layout.partitions_def) if layout.partitions_def else spec


def build_model_definitions(
    models: Sequence[ModelDefinition] | Catalogue,
    *,
    resources: Mapping[str, Any],
    layout: LayoutName = "partitions",
    translator: ShoalTranslator | None = None,
    freshness_policy: dg.FreshnessPolicy | None = None,
    rollout_form: type[RolloutConfig] = RolloutConfig,
    jobs: bool = True,
    automation: Callable[[Sequence[ModelAssets]], dg.Definitions] | None = None,
) -> dg.Definitions:
    """Assets, checks, jobs and resources of models; merge it with your own by `dg.Definitions.merge`.

    Args:
        resources: `shoal` (a `ShoalResource`) and `model_store` (a `ModelStore`).
        automation: makes sensors and schedules for the assets; merged with them.

    Raises:
        ValueError: as `build_model_assets`; or a resource is missing.
    """
    if missing := {"shoal", "model_store"} - set(resources):
        raise ValueError(f"resources: {', '.join(sorted(missing))} is missing; add it")
    found = build_model_assets(
        models,
        layout=layout,
        translator=translator,
        freshness_policy=freshness_policy,
        rollout_form=rollout_form,
    )
    all_jobs: list[Any] = []
    if jobs:
        all_jobs = [job for each in found for job in each.jobs.values()]
        all_jobs += build_steering_jobs(found[0].service_of) if found else []
    made = dg.Definitions(
        assets=[asset for each in found for asset in each.assets],
        asset_checks=[check for each in found for check in each.checks],
        jobs=all_jobs,
        resources=dict(resources),
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(made, automation(found)) if automation else made
