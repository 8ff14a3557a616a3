"""kill -9 in the middle of a canary: the rollout ends by itself as declared, and the next run takes it up."""

from __future__ import annotations

from typing import Any

import pytest

from support.dagster_ui import ENDED, ENOUGH, Stack, publish
from support.e2e import kill
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]


def config(**form: Any) -> dict[str, Any]:
    common = {"strategy": "canary", "weights": [10.0, 50.0], "max_latency_ratio": 0.0, "on_inconclusive": "continue"}
    return {"ops": {"roll_out": {"config": {**common, "step_seconds": 5.0, "min_samples": 10_000, **form}}}}


def begun(stack: Stack, run: str) -> dict[str, Any]:
    """The rollout of a run, once it has some of the traffic."""

    def look() -> dict[str, Any] | None:
        found = stack.rollout()
        mine = bool(found) and run in found["by"]
        assert not (mine and found["ended"]), f"over before it was seen to begin: {found}"
        assert stack.dagster.run(run)["status"] not in ENDED or mine, stack.dagster.failures(run)
        return found if mine and found["weight"] else None

    return eventually(look, "the canary has begun", 90, 0.25)


def over(stack: Stack) -> dict[str, Any] | None:
    found = stack.rollout()
    return found if found["ended"] else None


def test_a_killed_run_loses_nothing_and_the_next_one_follows_its_rollout(serving: Stack):
    publish(serving.dagster, "good", 31)
    first = serving.dagster.launch("rollout", config(step_seconds=15.0))
    rollout = begun(serving, first)["id"]
    kill(serving.dagster.worker(first))
    assert serving.dagster.ended(first, 60) == "FAILURE"
    assert serving.rollout()["ended"] is None
    second = serving.dagster.launch("rollout", config(step_seconds=15.0))
    serving.dagster.must_succeed(second)
    assert serving.dagster.asset("rollout")["materializations"][0]["rollout"] == rollout
    assert serving.dagster.run(second)["tags"]["shoal/rollout-id"] == rollout
    assert serving.rollout()["id"] == rollout


def test_a_rollout_ends_as_declared_though_nobody_follows_it(serving: Stack):
    publish(serving.dagster, "good", 32)
    run = serving.dagster.launch("rollout", config())
    rollout = begun(serving, run)
    kill(serving.dagster.worker(run))
    report = eventually(lambda: over(serving), "the rollout ends by itself", 60, 0.25)
    assert serving.dagster.ended(run) == "FAILURE"
    assert (report["id"], report["phase"]) == (rollout["id"], "Succeeded")
    assert serving.cluster.status("digits")["modelRevisionName"] == rollout["target"]


def test_a_bad_canary_goes_back_though_its_run_was_killed(serving: Stack):
    before = serving.cluster.status("digits")["modelRevisionName"]
    publish(serving.dagster, "brittle", 33)
    run = serving.dagster.launch("rollout", config(weights=[50.0], step_seconds=60.0, min_samples=ENOUGH))
    rollout = begun(serving, run)
    kill(serving.dagster.worker(run))
    with serving.caller().calling():  # not before: a second of requests is enough to see that it is bad
        report = eventually(lambda: over(serving), "the rollout ends by itself", 60, 0.25)
    assert (report["id"], report["phase"]) == (rollout["id"], "RolledBack")
    assert serving.cluster.status("digits")["modelRevisionName"] == before


def test_a_killed_daemon_comes_back_and_nothing_is_lost(serving: Stack):
    publish(serving.dagster, "good", 34)
    running = serving.dagster.launch("rollout", config())
    begun(serving, running)
    before = serving.part("daemon")
    kill(before)
    waiting = serving.dagster.launch("rollout", config(reason="launched while the daemon was away"))
    eventually(lambda: serving.part("daemon") != before, "the daemon is started again", 30)
    serving.dagster.must_succeed(running)
    serving.dagster.must_succeed(waiting)
    assert serving.rollout()["phase"] == "Succeeded"
