"""Retrains models when their data changed, as a function of the user's says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel, Field

import dagster as dg
from dagster_shoal.factory import ModelAssets
from dagster_shoal.model import ModelDefinition
from dagster_shoal.sensors.bounds import MetricBounds, in_turn, parsed
from dagster_shoal.sensors.targets import jobs_of, targets

_MAX_FINGERPRINT = 200
Fingerprint = Callable[[ModelDefinition], str | None]
"""Says cheaply which data there is: a table's last change, an ETag, a hash. None: not known now."""


class Fingerprints(BaseModel):
    """What was said last."""

    after: str = ""
    known: dict[str, str] = Field(default_factory=dict)


def new_data_sensor(
    models: Sequence[ModelAssets],
    fingerprint: Fingerprint,
    *,
    name: str = "new_data",
    minimum_interval_seconds: int = 60,
    bounds: MetricBounds | None = None,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """A run of `retrain` for each model whose data changed since the last look; the first look only takes note.

    Args:
        models: what `build_model_assets` returned.
        fingerprint: asked for each model; one that fails is logged and asked again next time.
        name: of the sensor.
        minimum_interval_seconds: between two ticks.
        bounds: of one tick.
        default_status: stopped, since training costs.
    """
    bounds = bounds or MetricBounds()

    @dg.sensor(
        name=name,
        jobs=jobs_of(models, "retrain"),
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description="Retrains models whose data changed.",
    )
    def new_data(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor = parsed(Fingerprints, context.cursor)
        found = {target.model.name: target for target in targets(models, context.instance)}
        cursor.known = {known: value for known, value in cursor.known.items() if known in found}
        requests: list[dg.RunRequest] = []
        for model in in_turn(list(found), cursor.after, bounds):
            cursor.after = model
            try:
                now = fingerprint(found[model].model)
            except Exception as error:  # A user's function: whatever it raises concerns this model only.
                context.log.warning(f"{model}: the fingerprint failed: {type(error).__name__}: {error}")
                continue
            if now is None or (now := now[:_MAX_FINGERPRINT]) == cursor.known.get(model):
                continue
            if model in cursor.known:
                requests.append(found[model].asks_for("retrain", f"{model}:{now}", {}, {"shoal/because": "new data"}))
            cursor.known[model] = now
            if len(requests) >= bounds.requests:
                break
        return dg.SensorResult(run_requests=requests, cursor=cursor.model_dump_json())

    return new_data
