"""`RolloutSensor`: waits for a rollout that somebody else started."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseSensorOperator
from airflow.sdk.bases.sensor import PokeReturnValue
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_shoal.hooks import ShoalHook
from airflow_provider_shoal.reports import summary
from airflow_provider_shoal.triggers import RolloutTrigger
from shoal.client import NotFound, ShoalError, Unreachable


class RolloutSensor(BaseSensorOperator):
    """Waits until a rollout is in one of some phases, and returns how it stands.

    One that ends in another phase fails the task for good. `until=["Paused"]` waits for one that wants approval.

        RolloutSensor(task_id="promoted", name="fraud")
    """

    template_fields: Sequence[str] = ("name", "rollout", "shoal_conn_id")

    def __init__(
        self,
        *,
        name: str,
        rollout: str = "",
        until: Sequence[str] = ("Succeeded",),
        shoal_conn_id: str = ShoalHook.default_conn_name,
        poke_interval: float = 10.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        """Wait for a rollout.

        Args:
            name: of the InferenceService.
            rollout: its id; empty: the newest.
            until: phases to wait for.
            shoal_conn_id: which connection.
            poke_interval: seconds between two looks.
            deferrable: wait in the triggerer instead of a worker.
            kwargs: of every sensor.
        """
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.name = name
        self.rollout = rollout
        self.until = tuple(until)
        self.shoal_conn_id = shoal_conn_id
        self.deferrable = deferrable

    def execute(self, context: Mapping[str, Any]) -> Any:
        """Wait, here or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)  # type: ignore[arg-type]
        end = time.time() + self.timeout
        trigger = RolloutTrigger(self.name, self.rollout, self.until, self.shoal_conn_id, self.poke_interval, end)
        wait = timedelta(seconds=self.timeout + 60)
        raise TaskDeferred(trigger=trigger, method_name="execute_complete", timeout=wait)

    def poke(self, context: Mapping[str, Any]) -> PokeReturnValue:
        """One look.

        Raises:
            AirflowFailException: it ended in another phase.
            AirflowException: the cluster cannot be used.
        """
        try:
            with ShoalHook(self.shoal_conn_id).get_conn() as client:
                report = next(client.follow(self.name, self.rollout, timeout=None, interval=0.0))
        except (Unreachable, NotFound) as error:
            self.log.info("%s", error)
            return PokeReturnValue(is_done=False)
        except (ShoalError, ValueError) as error:
            raise AirflowException(str(error)) from error
        if report.phase not in self.until and not report.live:
            raise AirflowFailException(_ended(summary(report), self.until))
        return PokeReturnValue(is_done=report.phase in self.until, xcom_value=summary(report))

    def execute_complete(self, context: Mapping[str, Any], event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Conclude from what the trigger told.

        Raises:
            AirflowFailException: it ended in another phase.
            AirflowSensorTimeout: the time is over.
            AirflowException: the cluster cannot be used.
        """
        status = event["status"] if event else "error"
        if status == "timeout":
            raise AirflowSensorTimeout(event["message"] if event else "")
        if not event or status == "error":
            raise AirflowException(event["message"] if event else "the triggerer told nothing of the rollout")
        report: dict[str, Any] = event["report"]
        if report["phase"] not in self.until:
            raise AirflowFailException(_ended(report, self.until))
        return report


def _ended(report: Mapping[str, Any], until: Sequence[str]) -> str:
    why = report["reason"] or "no reason was given"
    return f"rollout {report['rollout']} of {report['name']} ended {report['phase']}, not {' or '.join(until)}: {why}"
