"""Retrains models whose live figures got worse: errors, latency, disagreement, drift of data or scores."""

from __future__ import annotations

import time
from collections.abc import Sequence

import httpx
from pydantic import BaseModel, Field

import dagster as dg
from dagster_shoal.factory import ModelAssets
from dagster_shoal.resource import ShoalResource
from dagster_shoal.sensors.bounds import MetricBounds, in_turn, parsed
from dagster_shoal.sensors.metrics import Decline, ModelStanding, Source, SourceError
from dagster_shoal.sensors.targets import jobs_of, targets
from shoal.client import ShoalError


class DriftStandings(BaseModel):
    """Models that are worth remembering."""

    after: str = ""
    of: dict[str, ModelStanding] = Field(default_factory=dict)


def drift_sensor(
    models: Sequence[ModelAssets],
    source: Source,
    decline: Decline,
    *,
    name: str = "drift",
    minimum_interval_seconds: int = 60,
    bounds: MetricBounds | None = None,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """A run of `retrain` for each model whose figure is bad, by enough samples, for several ticks in a row.

        drift_sensor(models, from_rollouts("error_rate"), Decline(above=0.05, min_samples=1000))

    Args:
        models: what `build_model_assets` returned.
        source: `from_rollouts`, `from_prometheus`, or a function of yours that reads scores of live requests.
        decline: when a figure is bad.
        name: of the sensor; give each its own where there are several.
        minimum_interval_seconds: between two ticks, which `Decline.ticks` counts.
        bounds: of one tick.
        default_status: stopped, since training costs.
    """
    bounds = bounds or MetricBounds()

    @dg.sensor(
        name=name,
        jobs=jobs_of(models, "retrain"),
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description="Retrains models whose live figures got worse.",
    )
    def drift(context: dg.SensorEvaluationContext, shoal: ShoalResource) -> dg.SensorResult | dg.SkipReason:
        try:
            with shoal.client() as client:
                readings = source(client)
        except (ShoalError, SourceError, httpx.HTTPError) as error:
            return dg.SkipReason(f"no figures: {error}")
        cursor, now = parsed(DriftStandings, context.cursor), time.time()
        found = {target.model.name: target for target in targets(models, context.instance)}
        remembered = {model: standing for model, standing in cursor.of.items() if model in found}
        requests: list[dg.RunRequest] = []
        for model in in_turn(list(found), cursor.after, bounds):
            reading = readings.get(found[model].model.service)
            standing, fires = decline.judge(reading, remembered.pop(model, ModelStanding()), now)
            if not decline.forgets(standing, now):
                remembered[model] = standing
            cursor.after = model
            if fires and reading is not None:
                context.log.info(f"{model}: {name} is {reading.value:g} by {reading.samples} samples")
                requests.append(found[model].asks_for("retrain", f"{name}:{model}:{int(now)}", {}, _because(name)))
            if len(requests) >= bounds.requests:
                break
        return dg.SensorResult(
            run_requests=requests, cursor=DriftStandings(after=cursor.after, of=remembered).model_dump_json()
        )

    return drift


def _because(name: str) -> dict[str, str]:
    return {"shoal/because": name}
