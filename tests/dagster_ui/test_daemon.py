"""What the real daemon does by itself: a sensor's tick and a schedule's tick become runs that succeed."""

from __future__ import annotations

from typing import Any

import pytest

from support.dagster_ui import Stack
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]
_START_SENSOR = """\
mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename
  ... on Sensor { sensorState { id } } ... on PythonError { message } } }"""
_STOP_SENSOR = "mutation($id: String!) { stopSensor(id: $id) { __typename } }"
_START_SCHEDULE = """\
mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename
  ... on ScheduleStateResult { scheduleState { id } } ... on PythonError { message } } }"""
_STOP_SCHEDULE = "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"


def ticks_with_runs(stack: Stack, name: str) -> list[dict[str, Any]]:
    return [tick for tick in stack.dagster.ticks(name) if tick["status"] == "SUCCESS" and tick["runIds"]]


def looked(stack: Stack) -> bool:
    return any(tick["status"] == "SKIPPED" for tick in stack.dagster.ticks("new_data"))


def test_a_sensor_sees_new_data_and_a_run_retrains(serving: Stack):
    dagster = serving.dagster
    data = serving.cluster.root / "newest-data"
    data.write_text("monday")
    started = dagster.ask(_START_SENSOR, s=dagster.selector(sensorName="new_data"))["startSensor"]
    try:
        eventually(lambda: looked(serving), "the sensor has taken note of the data", 60)
        assert ticks_with_runs(serving, "new_data") == []
        data.write_text("tuesday")
        tick = eventually(lambda: ticks_with_runs(serving, "new_data"), "a tick asks for runs", 60)[0]
    finally:
        dagster.ask(_STOP_SENSOR, id=started["sensorState"]["id"])
    asked = {dagster.run(run)["tags"]["dagster/partition"]: run for run in tick["runIds"]}
    assert "digits" in asked
    dagster.must_succeed(asked["digits"])
    assert dagster.run(asked["digits"])["tags"]["shoal/because"] == "new data"


def test_a_schedule_ticks_and_its_runs_succeed(serving: Stack):
    dagster = serving.dagster
    started = dagster.ask(_START_SCHEDULE, s=dagster.selector(scheduleName="retrain_models"))["startSchedule"]
    try:
        tick = eventually(lambda: ticks_with_runs(serving, "retrain_models"), "a tick asks for runs", 100)[0]
    finally:
        dagster.ask(_STOP_SCHEDULE, id=started["scheduleState"]["id"])
    asked = {dagster.run(run)["tags"]["dagster/partition"]: run for run in tick["runIds"]}
    assert set(asked) == {"digits", "digits-forest"}
    for run in asked.values():
        dagster.must_succeed(run)
    assert dagster.asset("serving_endpoint")["materializations"][0]["run"] == asked["digits"]
