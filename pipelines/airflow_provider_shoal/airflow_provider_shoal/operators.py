"""`ShoalRolloutOperator`: declares an InferenceService and waits until its new revision serves everything."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_provider_shoal.hooks import ShoalHook
from airflow_provider_shoal.reports import STOPS, OnKill, summary
from airflow_provider_shoal.triggers import RolloutTrigger
from shoal.client import Refused, ShoalError

FIELD_MANAGER = "airflow-provider-shoal"
_SLACK = timedelta(seconds=60)
"""The trigger tells of a timeout itself, with more words than Airflow has; this is for when it cannot."""


class ShoalRolloutOperator(BaseOperator):
    """Rolls a model out, step by step as `spec.rollout` of the manifest says, and returns how it went.

    A rollout to the same revision that is under way is followed, not started again: a task may be retried. One that
    went back fails the task without further retries, with the reason.

        ShoalRolloutOperator(task_id="roll_out", manifest={"metadata": {"name": "fraud"}, "spec": {...}})
    """

    template_fields: Sequence[str] = ("manifest", "reason", "shoal_conn_id")
    template_fields_renderers = {"manifest": "yaml"}  # noqa: RUF012 - as BaseOperator declares it
    ui_color = "#d7ebf0"

    def __init__(
        self,
        *,
        manifest: Mapping[str, Any],
        shoal_conn_id: str = ShoalHook.default_conn_name,
        reason: str = "",
        poll_interval: float = 2.0,
        timeout: float = 86400.0,
        on_kill: OnKill = "pause",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        """Roll out `manifest`.

        Args:
            manifest: an InferenceService; kind, namespace and the deployment mode are added.
            shoal_conn_id: which connection.
            reason: why, for the rollout's history.
            poll_interval: seconds between two looks.
            timeout: seconds to wait; the rollout goes on in the mesh after that.
            on_kill: what becomes of the rollout when somebody ends the task.
            deferrable: wait in the triggerer instead of a worker.
            kwargs: of every operator.
        """
        super().__init__(**kwargs)
        if on_kill not in (*STOPS, "leave"):
            raise ValueError(f"on_kill: {on_kill!r} is none; use pause, abort or leave")
        self.manifest = manifest
        self.shoal_conn_id = shoal_conn_id
        self.reason = reason
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.kill_verb = on_kill
        self.deferrable = deferrable
        self._following: tuple[str, str] | None = None

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Declare, wait, conclude.

        Raises:
            AirflowFailException: the manifest cannot be used, or the rollout went back.
            AirflowException: the cluster does not answer, or the time is over; a retry goes on following.
        """
        end = time.time() + self.timeout
        try:
            with ShoalHook(self.shoal_conn_id).get_conn() as client:
                report = client.roll_out(
                    self.manifest,
                    by=_by(context),
                    reason=self.reason,
                    field_manager=FIELD_MANAGER,
                    timeout=self.timeout,
                )
                if report is None:
                    self.log.info("%s serves it; there was nothing to replace", self._name)
                    return {"name": self._name, "phase": "Serving", "weight": 100.0}
                self._following = (report.name, report.id)
                self.log.info("rollout %s of %s is %s", report.id, report.name, report.phase)
                if not self.deferrable:
                    *_, report = client.follow(report.name, report.id, self.timeout, self.poll_interval)
                    return self._concluded(summary(report))
        except Refused as error:
            raise AirflowFailException(str(error)) from error
        except (ShoalError, ValueError) as error:
            raise AirflowException(str(error)) from error
        trigger = RolloutTrigger(
            report.name, report.id, (), self.shoal_conn_id, self.poll_interval, end, self.kill_verb
        )
        wait = timedelta(seconds=self.timeout) + _SLACK
        raise TaskDeferred(trigger=trigger, method_name="execute_complete", timeout=wait)

    def execute_complete(self, context: Mapping[str, Any], event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Conclude from what the trigger told. Raises as `execute` does."""
        if not event or event["status"] not in ("ended", "reached"):
            raise AirflowException(event["message"] if event else "the triggerer told nothing of the rollout")
        return self._concluded(event["report"])

    def on_kill(self) -> None:
        """Somebody ended the task while it waited in a worker."""
        if self._following is None or self.kill_verb not in STOPS:
            return
        name, rollout = self._following
        try:
            with ShoalHook(self.shoal_conn_id).get_conn() as client:
                client.steer(name, STOPS[self.kill_verb], rollout, "airflow", "its task was ended")
        except ShoalError as error:  # It may have ended just now. Its own deadline holds.
            self.log.warning("rollout %s could not be told to %s: %s", rollout, self.kill_verb, error)

    @property
    def _name(self) -> str:
        return str((self.manifest.get("metadata") or {}).get("name") or "")

    def _concluded(self, report: dict[str, Any]) -> dict[str, Any]:
        if report["phase"] != "Succeeded":
            _fail(report)
        self.log.info("rollout %s of %s succeeded", report["rollout"], report["name"])
        return report


def _by(context: Mapping[str, Any]) -> str:
    """Who started it, for the rollout's history."""
    ti = context.get("ti")
    return f"airflow {ti.dag_id}.{ti.task_id} {ti.run_id}" if ti is not None else "airflow"


def _fail(report: Mapping[str, Any]) -> NoReturn:
    serving = f"; {report['active']} serves all requests" if report["phase"] == "RolledBack" else ""
    why = report["reason"] or "no reason was given"
    raise AirflowFailException(
        f"rollout {report['rollout']} of {report['name']} ended {report['phase']}: {why}{serving}"
    )
