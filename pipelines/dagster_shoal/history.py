"""What earlier steps recorded, read from Dagster's own event log: which draft, which package.

A step prefers what its own run made. So two runs of the same model, should they overlap, do not mix their models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_shoal.stages import AnyContext

_LOOK_BACK = 50


def latest(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, run_id: str = "", *, only: bool = False
) -> Mapping[str, Any] | None:
    """Metadata of a run's materialization of an asset, else of the newest one.

    Args:
        run_id: the run whose materialization is preferred.
        only: no other's will do.
    """
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None), limit=_LOOK_BACK
    ).records
    mine = next((record for record in records if record.run_id == run_id), None)
    found = mine if only or mine is not None else next(iter(records), None)
    if found is None or found.asset_materialization is None:
        return None
    return {name: value.value for name, value in found.asset_materialization.metadata.items()}


def upstream(context: AnyContext, key: dg.AssetKey) -> Mapping[str, Any]:
    """What the asset before this one recorded.

    Raises:
        Failure: it was never materialized.
    """
    partition = context.partition_key if context.has_partition_key else None
    found = latest(context.instance, key, partition, context.run.run_id)
    if found is None:
        about = f" for {partition}" if partition else ""
        raise dg.Failure(
            f"{key.to_user_string()} was never materialized{about}; materialize it first", allow_retries=False
        )
    return found
