"""What `workspace.yaml` loads: the digit models, rolled out to the embedded cluster of this machine.

`SHOAL_STATE_DIR` says which cluster (default: the one of the `shoal` command), `DAGSTER_URL` where the UI is, for
links.
"""

from __future__ import annotations

import os
from datetime import timedelta

import dagster as dg
from dagster_shoal import LocalModelStore, ShoalResource, build_model_definitions
from dagster_shoal.example.digits import MODELS


@dg.definitions
def defs() -> dg.Definitions:
    """Assets, checks and jobs of the digit models, partitioned by model name."""
    return build_model_definitions(
        MODELS,
        resources={
            "shoal": ShoalResource(dagster_url=os.environ.get("DAGSTER_URL", "")),
            "model_store": LocalModelStore(claim="models"),
        },
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=7), warn_window=timedelta(days=2)),
    )
