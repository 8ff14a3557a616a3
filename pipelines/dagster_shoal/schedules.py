"""Schedules: retrain each model now and then, not all of them in the same second."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import dagster as dg
from dagster_shoal.factory import ModelAssets
from dagster_shoal.sensors.targets import SensorTarget, targets

SLOTS = 12
"""Times an hour at which a staggered schedule ticks."""
_MINUTES = 60 // SLOTS
_MAX_REQUESTS = 1_000
"""Runs one tick asks for at most."""


def slot_of(name: str, slots: int = SLOTS) -> int:
    """Which of an hour's slots a model has: always the same one, and about as many models in each."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % slots


def retrain_schedules(
    models: Sequence[ModelAssets],
    cron: str,
    timezone: str = "UTC",
    *,
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED,
) -> list[dg.ScheduleDefinition]:
    """Runs of `retrain`: one schedule for models that are partitions, one each for those with assets of their own.

        retrain_schedules(models, "H 3 * * *", "Europe/Berlin")   # between three and four, each model at its own time

    Args:
        models: what `build_model_assets` returned.
        cron: as in crontab; with `H` as minute, each model has its own time within the hour, by a hash of its name.
        timezone: of the cron.
        default_status: stopped, since training costs.

    Raises:
        ValueError: the cron has not five fields.
    """
    return [_schedule(assets, cron, timezone, default_status) for assets in models]


def _schedule(
    assets: ModelAssets, cron: str, timezone: str, default_status: dg.DefaultScheduleStatus
) -> dg.ScheduleDefinition:
    only = assets.pipeline.layout.only
    spread = only is None and cron.split()[:1] == ["H"]

    @dg.schedule(
        name=assets.pipeline.layout.name("retrain_models" if only is None else "retrain_schedule"),
        cron_schedule=staggered(cron, only.name if only else None),
        execution_timezone=timezone,
        target=assets.jobs["retrain"],
        default_status=default_status,
        description="Retrains each model" + (", spread over the hour." if spread else "."),
    )
    def retrain(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        at = context.scheduled_execution_time
        found = targets([assets], context.instance)
        due = [each for each in found if not spread or slot_of(each.model.name) == at.minute // _MINUTES]
        if not due:
            return dg.SkipReason("no model has its time now")
        if len(due) > _MAX_REQUESTS:
            context.log.warning(f"{len(due) - _MAX_REQUESTS} models are left out; use H as minute to spread them")
        return [_request(target, at.strftime("%Y-%m-%dT%H:%M")) for target in due[:_MAX_REQUESTS]]

    return retrain


def staggered(cron: str, model: str | None) -> str:
    """A cron without `H`: the minute of one model, or, for all, every few minutes.

    Raises:
        ValueError: it has not five fields.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"cron: {cron!r} has {len(fields)} fields, not 5: minute hour day month weekday")
    if fields[0] == "H":
        fields[0] = f"*/{_MINUTES}" if model is None else str(slot_of(model, 60))
    return " ".join(fields)


def _request(target: SensorTarget, when: str) -> dg.RunRequest:
    return target.asks_for("retrain", f"{target.model.name}:{when}", {}, {"shoal/because": "schedule"})
