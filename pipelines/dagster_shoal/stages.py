"""The seven assets of a model and how they are laid out: partitioned by model name, or one set of keys a model.

Partitions let one definition serve a thousand models; keys a model give each its own graph, tags and pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

import dagster as dg
from dagster_shoal.model import Catalogue, Gate, ModelDefinition

MODELS = dg.DynamicPartitionsDefinition(name="models")
"""One partition a model; add names by a sensor, in the UI, or by `instance.add_dynamic_partitions("models", [...])`."""
MODEL_TAG = "shoal/model"
"""Run tag for limits of one run a model at a time, and for finding runs."""
VERSION_TAG = "shoal/version"
ROLLOUT_TAG = "shoal/rollout-id"
AnyContext: TypeAlias = dg.AssetExecutionContext | dg.AssetCheckExecutionContext


class Stage(Enum):
    """An asset of a model, in the order they are made."""

    TRAINING_DATA = "training_data"
    TRAINED_MODEL = "trained_model"
    VALIDATED_MODEL = "validated_model"
    MODEL_PACKAGE = "model_package"
    PUBLISHED_MODEL = "published_model"
    ROLLOUT = "rollout"
    SERVING_ENDPOINT = "serving_endpoint"

    @property
    def upstream(self) -> Stage | None:
        """The stage before."""
        order = list(Stage)
        place = order.index(self)
        return order[place - 1] if place else None


GATES_OF: dict[Stage, tuple[Gate, ...]] = {
    Stage.TRAINING_DATA: ("data",),
    Stage.VALIDATED_MODEL: ("metrics", "champion"),
    Stage.MODEL_PACKAGE: ("schema", "scan", "signature", "golden-replay", "budget"),
}
"""Which asset a gate is a check of. All of them come before `published_model`."""


@dataclass(frozen=True)
class StageLayout:
    """Which models a set of assets is about."""

    catalogue: Catalogue
    only: ModelDefinition | None = None
    """The one model, if the keys are its own; None: partitioned by model name."""

    @property
    def kind(self) -> Literal["partitions", "assets"]:
        """The name users have for it."""
        return "partitions" if self.only is None else "assets"

    @property
    def partitions_def(self) -> dg.PartitionsDefinition | None:
        """Of all assets and checks."""
        return MODELS if self.only is None else None

    def model(self, context: AnyContext) -> ModelDefinition:
        """The model a step is about.

        Raises:
            Failure: the partition names no model of the catalogue.
        """
        return self.only or find_model(self.catalogue, context.partition_key)

    def name(self, name: str) -> str:
        """A name for a job or op: itself, or with the model's in front."""
        return name if self.only is None else f"{identifier(self.only.name)}__{name}"

    def op(self, stage: Stage) -> str:
        """Name of a stage's op: where its form is in a run's config."""
        # A job and an op may not share a name, and `rollout` is the job that people look for.
        return self.name("roll_out" if stage is Stage.ROLLOUT else stage.value)


def find_model(catalogue: Catalogue, name: str) -> ModelDefinition:
    """A model of the catalogue.

    Raises:
        Failure: it does not know the name.
    """
    try:
        return catalogue(name)
    except KeyError as error:
        known = error.args[0] if error.args else "it says no more"
        reason = (
            f"the catalogue has no model {name!r}: {known}; correct the name or partition, or add it to the catalogue"
        )
        raise dg.Failure(reason, allow_retries=False) from None


def identifier(name: str) -> str:
    """A name as Dagster's identifiers are written: `golden-replay` is the check `golden_replay`."""
    return name.replace("-", "_").replace(".", "_")
