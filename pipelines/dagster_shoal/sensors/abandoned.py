"""A second net under rollouts whose run ended badly before they did.

A cancelled run steers its rollout itself, unless it was killed or marked as cancelled from outside. The rollout's own
deadline and checks hold in any case: they are in the mesh. So a failed run leaves its rollout alone by default.
"""

from __future__ import annotations

from typing import Literal

import dagster as dg
from dagster_shoal.resource import OnCancel, ShoalResource
from dagster_shoal.stages import ROLLOUT_TAG
from shoal.client import RolloutReport, ShoalClient, ShoalError

Verb = Literal["pause", "abort", "leave"]


def abandoned_rollout_sensors(
    *,
    on_canceled: OnCancel | None = None,
    on_failed: Verb = "leave",
    name: str = "abandoned_rollouts",
    minimum_interval_seconds: int = 10,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> list[dg.SensorDefinition]:
    """Pause or abort the rollout that a cancelled or failed run of this code location followed, if it goes on.

    Args:
        on_canceled: None: as `ShoalResource.on_cancel` says.
        on_failed: `pause` and `abort` also stop a rollout whose run lost its pod, which would have ended by itself.
        name: of the sensors, `_canceled` and `_failed` appended.
        minimum_interval_seconds: between two ticks.
        default_status: running; it starts no run.
    """

    def sensor(status: dg.DagsterRunStatus, suffix: str, verb: Verb | None) -> dg.SensorDefinition:
        @dg.run_status_sensor(
            run_status=status,
            name=f"{name}_{suffix}",
            minimum_interval_seconds=minimum_interval_seconds,
            default_status=default_status,
            description="Pauses or aborts rollouts whose run ended before them.",
        )
        def abandoned(context: dg.RunStatusSensorContext, shoal: ShoalResource) -> dg.SkipReason:
            return dg.SkipReason(_steer(context, shoal, verb or shoal.on_cancel))

        return abandoned

    sensors = [sensor(dg.DagsterRunStatus.CANCELED, "canceled", on_canceled)] if on_canceled != "leave" else []
    return sensors if on_failed == "leave" else [*sensors, sensor(dg.DagsterRunStatus.FAILURE, "failed", on_failed)]


def _steer(context: dg.RunStatusSensorContext, shoal: ShoalResource, verb: Verb) -> str:
    """What was done, in words."""
    rollout = context.dagster_run.tags.get(ROLLOUT_TAG)
    if not rollout or verb == "leave":
        return "the run followed no rollout" if not rollout else f"rollout {rollout} is left alone"
    run = context.dagster_run
    try:
        with shoal.client() as client:
            report = _live(client, rollout)
            if report is None:
                return f"rollout {rollout} has ended"
            if verb == "pause" and report.phase == "Paused":
                return f"rollout {rollout} is paused already"
            done = client.steer(
                report.name, verb, rollout, shoal.run_link(run.run_id), f"its run ended {run.status.value}"
            )
    except ShoalError as error:  # It may have ended just now; if not, its own deadline holds.
        context.log.warning(f"rollout {rollout} could not be told to {verb}: {error}")
        return f"rollout {rollout} could not be told to {verb}: {error}"
    return f"rollout {rollout} of {report.name} is {done.phase} now"


def _live(client: ShoalClient, rollout: str) -> RolloutReport | None:
    return next((report for report in client.rollouts() if report.id == rollout and report.live), None)
