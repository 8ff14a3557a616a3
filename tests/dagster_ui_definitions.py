"""The example's models with a schedule and a sensor that tick as often as Dagster lets them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from dagster_shoal import LocalModelStore, ModelDefinition, ShoalResource, build_model_definitions, rollout_form
from dagster_shoal.example.digits import MODELS
from dagster_shoal.factory import ModelAssets
from dagster_shoal.schedules import retrain_schedules
from dagster_shoal.sensors import new_data_sensor

DATA = Path(os.environ["SHOAL_STATE_DIR"]) / "newest-data"
"""What is written here is the fingerprint of all models' data."""


def fingerprint(model: ModelDefinition) -> str | None:
    """Changes when the data did."""
    return DATA.read_text() if DATA.exists() else None


def automation(models: Sequence[ModelAssets]) -> dg.Definitions:
    """Both stopped, until a test starts them."""
    return dg.Definitions(
        schedules=retrain_schedules(models, "* * * * *"),
        sensors=[new_data_sensor(models, fingerprint, minimum_interval_seconds=2)],
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Rollouts that these ask for need no traffic: who asks for other ones says so in the run's config."""
    return build_model_definitions(
        MODELS,
        resources={
            "shoal": ShoalResource(dagster_url=os.environ.get("DAGSTER_URL", "")),
            "model_store": LocalModelStore(claim="models"),
        },
        rollout_form=rollout_form(strategy="immediate"),
        automation=automation,
    )
