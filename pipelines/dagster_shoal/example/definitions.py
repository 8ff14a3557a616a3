"""What `workspace.yaml` loads: the digit models, rolled out to the embedded cluster of this machine.

`SHOAL_STATE_DIR` says which cluster (default: the one of the `shoal` command), `DAGSTER_URL` where the UI is, for
links.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import dagster as dg
from dagster_shoal import LocalModelStore, ModelAssets, ShoalResource, build_model_definitions
from dagster_shoal.example.digits import MODELS
from dagster_shoal.schedules import retrain_schedules
from dagster_shoal.sensors import (
    Decline,
    abandoned_rollout_sensors,
    drift_sensor,
    from_rollouts,
    new_packages_sensor,
    rollout_mirror_sensor,
)


def automation(models: Sequence[ModelAssets]) -> dg.Definitions:
    """What runs without anybody pressing a button. What trains or rolls out is stopped until somebody starts it."""
    return dg.Definitions(
        schedules=retrain_schedules(models, "H 3 * * *"),
        sensors=[
            new_packages_sensor(models),
            drift_sensor(models, from_rollouts("error_rate"), Decline(above=0.05)),
            rollout_mirror_sensor(models),
            *abandoned_rollout_sensors(),
        ],
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors of the digit models, partitioned by model name."""
    return build_model_definitions(
        MODELS,
        resources={
            "shoal": ShoalResource(dagster_url=os.environ.get("DAGSTER_URL", "")),
            "model_store": LocalModelStore(claim="models"),
        },
        automation=automation,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=7), warn_window=timedelta(days=2)),
    )
