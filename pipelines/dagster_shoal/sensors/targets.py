"""The models a tick looks at, whichever way their assets are laid out, and the runs it may ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster_shoal.factory import ModelAssets
from dagster_shoal.jobs import AssetJob
from dagster_shoal.model import ModelDefinition
from dagster_shoal.stages import MODEL_TAG, MODELS, Stage


@dataclass(frozen=True)
class SensorTarget:
    """A model with its assets."""

    model: ModelDefinition
    assets: ModelAssets
    partition: str | None
    """None: the assets are this model's own."""

    def asks_for(
        self, job: AssetJob, run_key: str, config: Mapping[Stage, Mapping[str, Any]], tags: Mapping[str, str]
    ) -> dg.RunRequest:
        """A run of one of its jobs; `config` by stage, what it leaves out is as the launchpad shows it."""
        layout = self.assets.pipeline.layout
        ops = {layout.op(stage): {"config": dict(given)} for stage, given in config.items()}
        return dg.RunRequest(
            run_key=run_key,
            job_name=layout.name(job),
            partition_key=self.partition,
            run_config={"ops": ops} if ops else None,
            tags={MODEL_TAG: self.model.name, **tags},
        )


def known(models: Sequence[ModelAssets], name: str) -> SensorTarget | None:
    """A model by name; None if no catalogue has it."""
    for assets in models:
        layout = assets.pipeline.layout
        if layout.only is not None:
            if layout.only.name == name:
                return SensorTarget(layout.only, assets, None)
            continue
        try:
            return SensorTarget(layout.catalogue(name), assets, name)
        except KeyError:
            continue
    return None


def targets(models: Sequence[ModelAssets], instance: dg.DagsterInstance) -> Iterator[SensorTarget]:
    """Models with assets of their own, and those that are partitions now."""
    for assets in models:
        layout = assets.pipeline.layout
        if layout.only is not None:
            yield SensorTarget(layout.only, assets, None)
            continue
        for name in partitions(instance):
            try:
                yield SensorTarget(layout.catalogue(name), assets, name)
            except KeyError:
                continue


def partitions(instance: dg.DagsterInstance) -> Sequence[str]:
    """Names of the models that are partitions now."""
    assert MODELS.name is not None
    return instance.get_dynamic_partitions(MODELS.name)


def is_partitioned(models: Iterable[ModelAssets]) -> bool:
    """Whether names have to be added as partitions before their runs."""
    return any(assets.pipeline.layout.only is None for assets in models)


def jobs_of(models: Iterable[ModelAssets], job: AssetJob) -> list[Any]:
    """The jobs that a sensor may ask runs of."""
    return [assets.jobs[job] for assets in models]
