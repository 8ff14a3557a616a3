"""`RolloutTrigger`: waits for a rollout in the triggerer, so that no worker is held for hours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_shoal.hooks import ShoalHook
from airflow_provider_shoal.reports import STOPS, summary
from shoal.client import RolloutReport, ShoalClient, ShoalError, Unreachable
from shoal.client.client import Verb

_PATIENCE = 300.0
"""Seconds for which a cluster that does not answer is asked again: it may restart."""


class RolloutTrigger(BaseTrigger):
    """Fires when a rollout is in one of some phases, or has ended.

    The event's payload: `status` (`reached`, `ended`, `timeout` or `error`), `report` and `message`.
    """

    def __init__(
        self,
        name: str,
        rollout: str = "",
        until: Sequence[str] = (),
        shoal_conn_id: str = ShoalHook.default_conn_name,
        poll_interval: float = 2.0,
        end: float = 0.0,
        kill_verb: str = "leave",
    ) -> None:
        """Wait for rollout `rollout` of InferenceService `name`.

        Args:
            name: of the InferenceService.
            rollout: its id; empty: the newest.
            until: phases to wait for beside its end.
            shoal_conn_id: which connection.
            poll_interval: seconds between two looks.
            end: seconds since 1970 after which `timeout` is fired; 0: never.
            kill_verb: `pause`, `abort` or `leave`: what becomes of it when somebody ends the task.
        """
        super().__init__()
        self.name = name
        self.rollout = rollout
        self.until = tuple(until)
        self.shoal_conn_id = shoal_conn_id
        self.poll_interval = poll_interval
        self.end = end
        self.kill_verb = kill_verb

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer makes it again."""
        names = ("name", "rollout", "shoal_conn_id", "poll_interval", "end", "kill_verb")
        kwargs = {"until": list(self.until), **{name: getattr(self, name) for name in names}}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to tell."""
        hook, silent_since = ShoalHook(self.shoal_conn_id), 0.0
        while True:
            try:
                report = await hook.acall(self._look)
                silent_since = 0.0
            except Unreachable as error:
                silent_since = silent_since or time.time()
                if time.time() - silent_since > _PATIENCE:
                    yield TriggerEvent({"status": "error", "message": str(error)})
                    return
            except (ShoalError, ValueError) as error:
                yield TriggerEvent({"status": "error", "message": str(error)})
                return
            else:
                if report.phase in self.until or not report.live:
                    status = "reached" if report.phase in self.until else "ended"
                    yield TriggerEvent({"status": status, "report": summary(report), "message": report.reason})
                    return
                self.rollout = report.id
            if self.end and time.time() >= self.end:
                yield TriggerEvent({"status": "timeout", "message": f"rollout {self.rollout} of {self.name} goes on"})
                return
            await asyncio.sleep(self.poll_interval)

    def _look(self, client: ShoalClient) -> RolloutReport:
        return next(client.follow(self.name, self.rollout, timeout=None, interval=0.0))

    async def on_kill(self) -> None:
        """Somebody ended or cleared the task: pause or abort the rollout, as the operator says."""
        if self.kill_verb not in STOPS:
            return
        verb: Verb = STOPS[self.kill_verb]

        def stop(client: ShoalClient) -> RolloutReport:
            return client.steer(self.name, verb, self.rollout, "airflow", "its task was ended")

        try:
            await ShoalHook(self.shoal_conn_id).acall(stop)
        except (ShoalError, ValueError) as error:  # It may have ended just now. Its own deadline holds.
            self.log.warning("rollout %s could not be told to %s: %s", self.rollout, verb, error)
