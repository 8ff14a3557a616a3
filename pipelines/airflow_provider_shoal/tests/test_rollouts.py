"""The operator, its trigger and the sensor on real rollouts."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.triggers.base import TriggerEvent
from airflow_provider_shoal.operators import ShoalRolloutOperator
from airflow_provider_shoal.sensors import RolloutSensor
from airflow_provider_shoal.triggers import RolloutTrigger
from provider_support import KEEP_NONE, QUICK, WAITING, manifest

from shoal.client import RolloutReport, ShoalClient


def operator(document: dict[str, Any], **more: Any) -> ShoalRolloutOperator:
    return ShoalRolloutOperator(
        **{"task_id": "roll_out", "manifest": document, "poll_interval": 0.2, "timeout": 120, **more}
    )


def first(trigger: Any) -> TriggerEvent:
    """What a trigger tells, after it went through the triggerer's serialization."""
    path, kwargs = trigger.serialize()
    assert path == "airflow_provider_shoal.triggers.RolloutTrigger"

    async def run() -> TriggerEvent:
        async for event in RolloutTrigger(**kwargs).run():
            return event
        raise AssertionError("the trigger told nothing")

    return asyncio.run(asyncio.wait_for(run(), 120))


def paused(client: ShoalClient, name: str) -> RolloutReport:
    """The rollout, once it waits for approval."""
    deadline = time.monotonic() + 60
    while (report := client.rollout(name)).phase != "Paused":
        assert time.monotonic() < deadline, report
        time.sleep(0.1)
    return report


def other(client: ShoalClient, name: str) -> str:
    """A model that neither serves nor was just tried."""
    report = client.rollout(name)
    revisions = {model: client.revision_of(manifest(name, model)) for model in ("a", "b", "c")}
    return next(model for model, revision in revisions.items() if revision not in (report.active, report.target))


@pytest.fixture(scope="module")
def name(request: pytest.FixtureRequest) -> str:
    """An InferenceService that serves model `a`."""
    first_time = operator(manifest("airflow", "a")).execute({})
    assert first_time == {"name": "airflow", "phase": "Serving", "weight": 100.0}
    return "airflow"


@pytest.fixture(autouse=True, scope="module")
def module_connection() -> Any:
    """The module's fixture comes before each test's connection."""
    import json
    import os

    from conftest import STATE_DIR

    os.environ["AIRFLOW_CONN_SHOAL_DEFAULT"] = json.dumps({"conn_type": "shoal", "extra": {"state_dir": STATE_DIR}})


def test_operator_follows_a_rollout_in_the_worker(name: str, client: ShoalClient):
    done = operator(manifest(name, "b", **QUICK), reason="a test").execute({})
    assert (done["phase"], done["weight"]) == ("Succeeded", 100.0)
    assert client.rollout(name).by == "airflow: a test"
    again = operator(manifest(name, "b", **QUICK)).execute({})
    assert again["rollout"] == done["rollout"], "what serves already is not rolled out again"


def test_deferred_operator_follows_it_in_the_triggerer(name: str):
    task = operator(manifest(name, "c", **QUICK), deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    event = first(deferred.value.trigger)
    done = getattr(task, deferred.value.method_name)({}, event.payload)
    assert done["phase"] == "Succeeded"


def test_rollout_that_goes_back_fails_the_task_for_good_and_clearing_tries_again(name: str, client: ShoalClient):
    before = client.rollout(name).target
    task = operator(manifest(name, "a", **WAITING), deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    rollout = paused(client, name).id
    client.steer(name, "abort", rollout, "somebody", "it looked odd")
    with pytest.raises(AirflowFailException, match=f"RolledBack: .*it looked odd.*{before} serves all"):
        task.execute_complete({}, first(deferred.value.trigger).payload)
    with pytest.raises(TaskDeferred):
        operator(manifest(name, "a", **WAITING), deferrable=True).execute({})
    retried = paused(client, name)
    assert retried.live
    client.steer(name, "promote", retried.id)
    assert first(RolloutTrigger(name, retried.id, poll_interval=0.1)).payload["report"]["phase"] == "Succeeded"


def test_second_task_follows_the_rollout_under_way_and_a_sensor_sees_it_wait(name: str, client: ShoalClient):
    document = manifest(name, "b", **WAITING)
    with pytest.raises(TaskDeferred):
        operator(document, deferrable=True).execute({})
    rollout = paused(client, name).id
    sensor = RolloutSensor(task_id="waits", name=name, until=["Paused"], poke_interval=0.2, timeout=60)
    assert sensor.execute({})["rollout"] == rollout
    promoting = threading.Timer(1.0, lambda: client.steer(name, "promote", rollout))
    promoting.start()
    done = operator(document).execute({})
    promoting.join()
    assert (done["rollout"], done["phase"]) == (rollout, "Succeeded")
    deferred_sensor = RolloutSensor(task_id="done", name=name, rollout=rollout, deferrable=True, timeout=60)
    with pytest.raises(TaskDeferred) as deferred:
        deferred_sensor.execute({})
    assert deferred_sensor.execute_complete({}, first(deferred.value.trigger).payload)["phase"] == "Succeeded"
    wrong = RolloutSensor(task_id="never", name=name, rollout=rollout, until=["Paused"], poke_interval=0.2)
    with pytest.raises(AirflowFailException, match="ended Succeeded, not Paused"):
        wrong.execute({})


@pytest.mark.parametrize(("verb", "phase"), [("pause", "Paused"), ("abort", "RolledBack"), ("leave", "Progressing")])
def test_ended_task_stops_its_rollout_as_it_says(name: str, client: ShoalClient, verb: Any, phase: str):
    steps = [{"setWeight": 50}, {"pause": {"duration": "60s"}}]
    model = other(client, name)
    with pytest.raises(TaskDeferred) as deferred:
        operator(manifest(name, model, **{**KEEP_NONE, "steps": steps}), deferrable=True, on_kill=verb).execute({})
    trigger = deferred.value.trigger
    deadline = time.monotonic() + 60
    while client.rollout(name).weight != 50.0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    asyncio.run(trigger.on_kill())
    report = client.rollout(name)
    assert report.phase == phase
    if report.live:
        client.steer(name, "promote", report.id)
        list(client.follow(name, report.id, timeout=60, interval=0.1))


def test_time_that_is_over_leaves_the_rollout_alone(name: str, client: ShoalClient):
    task = operator(manifest(name, other(client, name), **WAITING), deferrable=True, timeout=0.0)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({})
    event = first(deferred.value.trigger)
    assert event.payload["status"] == "timeout"
    with pytest.raises(AirflowException, match="goes on"):
        task.execute_complete({}, event.payload)
    rollout = paused(client, name)
    client.steer(name, "abort", rollout.id)


def test_wrong_manifest_fails_for_good_and_names_the_field(name: str):
    with pytest.raises(AirflowFailException, match="strategy"):
        operator(manifest(name, "a", strategy="sideways")).execute({})
