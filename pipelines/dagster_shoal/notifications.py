"""Tells a chat how runs of models ended: a webhook that takes JSON as Slack's incoming webhooks do.

Sensors also see runs that were killed; hooks tell at once, from within the run, and die with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import httpx
from pydantic import Field

import dagster as dg
from dagster_shoal.resource import ShoalResource
from dagster_shoal.stages import MODEL_TAG, ROLLOUT_TAG, VERSION_TAG

Outcome = Literal["success", "failure", "canceled"]
_STATUS: Mapping[Outcome, dg.DagsterRunStatus] = {
    "success": dg.DagsterRunStatus.SUCCESS,
    "failure": dg.DagsterRunStatus.FAILURE,
    "canceled": dg.DagsterRunStatus.CANCELED,
}
_ICONS: Mapping[Outcome, str] = {"success": ":white_check_mark:", "failure": ":x:", "canceled": ":no_entry_sign:"}
_MAX_TEXT = 2900
"""Slack refuses a section's text above 3,000 characters."""
_ATTEMPTS = 2


class Webhook(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where to post: its address is a secret, so give it as `dg.EnvVar("SLACK_WEBHOOK")`."""

    url: str = Field(description="Address of an incoming webhook.")
    timeout: float = Field(default=5.0, gt=0, le=15, description="Seconds for one attempt, of two.")

    def post(self, message: Mapping[str, Any]) -> str:
        """Send it; empty if it was taken, else why not (without the address, which is a secret)."""
        problem = ""
        for _ in range(_ATTEMPTS):
            try:
                answer = httpx.post(self.url, json=dict(message), timeout=self.timeout)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = type(error).__name__
                continue
            if answer.is_success:
                return ""
            problem = f"HTTP {answer.status_code}"
            if answer.status_code < 500 and answer.status_code != 429:
                break
        return problem


def message_of(outcome: Outcome, job: str, tags: Mapping[str, str], link: str, reason: str = "") -> dict[str, Any]:
    """What is posted about a run."""
    model = tags.get(MODEL_TAG, "?")
    version = f" {tags[VERSION_TAG]}" if VERSION_TAG in tags else ""
    title = f"{_ICONS[outcome]} {job} of {model}{version}: {outcome}"
    text = title if not reason else f"{title}\n{reason}"
    if len(text) > _MAX_TEXT:
        text = text[: _MAX_TEXT - 1] + "…"
    context = [link] + ([f"rollout {tags[ROLLOUT_TAG]}"] if ROLLOUT_TAG in tags else [])
    return {
        "text": title,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": text}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": " · ".join(context)}]},
        ],
    }


def notification_sensors(
    outcomes: Sequence[Outcome] = ("success", "failure", "canceled"),
    *,
    name: str = "notify",
    minimum_interval_seconds: int = 10,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING,
) -> list[dg.SensorDefinition]:
    """Post about runs of this code location that are about a model. They need the resources `webhook` and `shoal`.

    Args:
        outcomes: which to post about.
        name: of the sensors, the outcome appended.
        minimum_interval_seconds: between two ticks.
        default_status: running; it starts no run.
    """

    def sensor(outcome: Outcome) -> dg.SensorDefinition:
        @dg.run_status_sensor(
            run_status=_STATUS[outcome],
            name=f"{name}_{outcome}",
            minimum_interval_seconds=minimum_interval_seconds,
            default_status=default_status,
            description="Posts how runs of models ended.",
        )
        def notify(context: dg.RunStatusSensorContext, webhook: Webhook, shoal: ShoalResource) -> dg.SkipReason:
            run = context.dagster_run
            if MODEL_TAG not in run.tags:
                return dg.SkipReason("the run is about no model")
            reason = _reason(context) if outcome == "failure" else ""
            link = shoal.run_link(run.run_id)
            problem = webhook.post(message_of(outcome, run.job_name, run.tags, link, reason))
            if problem:  # Trying for ever would hold up the news of all later runs.
                context.log.warning(f"run {run.run_id}: the webhook did not take the message: {problem}")
            return dg.SkipReason(f"the webhook did not take it: {problem}" if problem else "posted")

        return notify

    return [sensor(outcome) for outcome in outcomes]


def _reason(context: dg.RunStatusSensorContext) -> str:
    """Why a run failed: the words of the first step that gave some, else of its failed checks, else of any error."""
    failed = context.for_run_failure()
    steps: list[Any] = [event.event_specific_data for event in failed.get_step_failure_events()]
    described = [found for step in steps if (found := getattr(step.user_failure_data, "description", None))]
    errors = [step.error.message for step in steps if step.error is not None]
    reasons = described[:1] or _failed_checks(context) or errors[:1] or [failed.failure_event.message or ""]
    return "\n".join(reasons).strip()


def _failed_checks(context: dg.RunStatusSensorContext) -> list[str]:
    """Names and words of the run's failed checks: a step that a blocking check failed names no more than the check."""
    found: list[str] = []
    for entry in context.instance.all_logs(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ):
        data: Any = entry.dagster_event.event_specific_data if entry.dagster_event else None
        if data is not None and not data.passed:
            found.append(f"{data.check_name}: {data.description or 'failed'}")
    return found


def notification_hooks(link: str = "") -> set[dg.HookDefinition]:
    """Hooks for a job or asset that post when a step failed or succeeded. They need the resource `webhook`.

    Args:
        link: base URL of the Dagster UI; empty: `DAGSTER_URL`.
    """

    def post(context: dg.HookContext, outcome: Outcome, reason: str) -> None:
        base = (link or os.environ.get("DAGSTER_URL", "")).rstrip("/")
        where = f"{base}/runs/{context.run_id}" if base else f"dagster run {context.run_id}"
        tags = context.instance.get_run_by_id(context.run_id)
        message = message_of(
            outcome, f"{context.job_name}: {context.op.name}", tags.tags if tags else {}, where, reason
        )
        if problem := context.resources.webhook.post(message):
            context.log.warning(f"the webhook did not take the message: {problem}")

    @dg.success_hook(name="notify_success", required_resource_keys={"webhook"})
    def succeeded(context: dg.HookContext) -> None:
        post(context, "success", "")

    @dg.failure_hook(name="notify_failure", required_resource_keys={"webhook"})
    def failed(context: dg.HookContext) -> None:
        post(context, "failure", str(context.op_exception or ""))

    return {succeeded, failed}
