"""Shows rollouts that others started, with kubectl or another pipeline, on the assets they are about. Starts no run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, Field

import dagster as dg
from dagster_shoal import rollout_watch
from dagster_shoal.factory import ModelAssets
from dagster_shoal.resource import ShoalResource
from dagster_shoal.rolling import PROMOTED
from dagster_shoal.sensors.bounds import MetricBounds, in_turn, parsed
from dagster_shoal.sensors.targets import SensorTarget, targets
from dagster_shoal.stages import Stage
from shoal.client import RolloutReport, ShoalError

_RUN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECONDS = 30.0
"""Between two observations of a rollout in which nothing but figures changed."""
Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation


class Shown(BaseModel):
    """How each rollout stood when it was shown last."""

    after: str = ""
    of: dict[str, str] = Field(default_factory=dict)


def rollout_mirror_sensor(
    models: Sequence[ModelAssets],
    *,
    name: str = "rollout_mirror",
    minimum_interval_seconds: int = 30,
    bounds: MetricBounds | None = None,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> dg.SensorDefinition:
    """Observations of live rollouts, a materialization and the check `promoted` of ended ones, if no run follows them.

    One request to the mesh a tick, whatever the number of models.

    Args:
        models: what `build_model_assets` returned.
        name: of the sensor.
        minimum_interval_seconds: between two ticks.
        bounds: of one tick; `requests` bounds the rollouts that are shown.
        default_status: running; it starts no run.
    """
    bounds = bounds or MetricBounds(requests=200)

    @dg.sensor(
        name=name,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description="Shows rollouts that were started by others on their assets.",
    )
    def rollout_mirror(context: dg.SensorEvaluationContext, shoal: ShoalResource) -> dg.SensorResult | dg.SkipReason:
        try:
            with shoal.client() as client:
                reports = {report.name: report for report in client.rollouts()}
        except ShoalError as error:
            return dg.SkipReason(f"the mesh cannot be asked: {error}")
        cursor = parsed(Shown, context.cursor)
        found = {target.model.service: target for target in targets(models, context.instance)}
        cursor.of = {service: how for service, how in cursor.of.items() if service in reports and service in found}
        events: list[Event] = []
        shown = 0
        for service in in_turn([each for each in reports if each in found], cursor.after, bounds):
            cursor.after = service
            report, before = reports[service], cursor.of.get(service)
            if (how := standing(report)) == before:
                continue
            cursor.of[service] = how
            if not _followed(context.instance, report):
                events += events_of(found[service], report)
                shown += 1
            if shown >= bounds.requests:
                break
        return dg.SensorResult(asset_events=events, cursor=cursor.model_dump_json())

    return rollout_mirror


def standing(report: RolloutReport) -> str:
    """Changes when there is something new to show."""
    if not report.live:
        return f"{report.id}:{report.phase}"
    slot = int((report.now - report.started) // _SECONDS)
    return f"{report.id}:{report.phase}:{report.step}:{report.weight:g}:{slot}"


def _followed(instance: dg.DagsterInstance, report: RolloutReport) -> bool:
    """Whether a run of this instance shows it: one that goes on, or ended after the rollout did."""
    named = _RUN.search(report.by)
    record = instance.get_run_record_by_id(named.group()) if named else None
    if record is None:
        return False
    if record.end_time is None:
        return True
    return report.ended is not None and record.end_time >= report.ended


def events_of(target: SensorTarget, report: RolloutReport) -> Iterator[Event]:
    """What to record of a rollout as it stands."""
    key, partition = target.assets.key(Stage.ROLLOUT), target.partition
    words = {"phase": report.phase, "by": report.by or "?", "from": report.active, "to": report.target}
    if report.live:
        yield rollout_watch.observation(key, partition, {**rollout_watch.figures_of(report), **words}, report.id)
        return
    found = {**rollout_watch.evidence(report, []), "by": report.by or "?"}
    if report.phase == "Superseded":
        yield rollout_watch.observation(key, partition, found, report.id)
        return
    if report.succeeded:
        yield dg.AssetMaterialization(key, partition=partition, metadata=found, description="rolled out by others")
    else:
        yield rollout_watch.observation(key, partition, found, report.id)
    yield dg.AssetCheckEvaluation(
        key,
        PROMOTED,
        report.succeeded,
        metadata={"phase": report.phase, "rollout": report.id},
        description=report.reason or report.phase,
        partition=partition,
    )
