"""Pod statuses from container states."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.cluster.kubelet.podstatus import (
    ContainerFact,
    Running,
    State,
    Terminated,
    Waiting,
    phase_of,
    pod_status,
    seconds_of,
    timestamp,
)

T = 1_700_000_000.0
CREATING, CRASHING = Waiting("ContainerCreating"), Waiting("CrashLoopBackOff", "again")
RUNNING, DONE, FAILED = Running(T, 7), Terminated(0, T, T + 1), Terminated(3, T, T + 1, "boom")


def fact(state: State, *, ready: bool = False, restarts: int = 0) -> ContainerFact:
    return ContainerFact("c", "image", state, None, restarts, ready)


@pytest.mark.parametrize(
    ("states", "restart", "phase"),
    [
        ([CREATING], "Always", "Pending"),
        ([RUNNING, CREATING], "Always", "Running"),
        ([RUNNING, RUNNING], "Always", "Running"),
        ([DONE], "Always", "Running"),
        ([DONE, DONE], "Never", "Succeeded"),
        ([DONE, FAILED], "Never", "Failed"),
        ([DONE, RUNNING], "Never", "Running"),
        ([DONE], "OnFailure", "Succeeded"),
        ([FAILED], "OnFailure", "Running"),
        ([], "Always", "Pending"),
    ],
)
def test_phases(states: list[State], restart: str, phase: str):
    assert phase_of([fact(state) for state in states], restart) == phase


def test_a_pod_that_crashes_is_running_not_pending():
    assert phase_of([fact(CRASHING, restarts=1)], "Always") == "Running"


def status_of(facts: list[ContainerFact], **more: Any) -> dict[str, Any]:
    return pod_status(facts, ip="127.70.0.10", host_ip="127.70.0.1", started=T, now=T + 5, **more)


def ready_of(status: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in status["conditions"] if c["type"] == "Ready")


def test_ready_when_every_container_is():
    status = status_of([fact(RUNNING, ready=True), fact(RUNNING, ready=True)])
    assert ready_of(status) == {"type": "Ready", "status": "True", "lastTransitionTime": timestamp(T + 5)}
    assert status["podIP"] == "127.70.0.10"
    assert status["startTime"] == timestamp(T)


def test_unready_names_the_containers():
    condition = ready_of(status_of([fact(RUNNING, ready=True), ContainerFact("slow", "i", RUNNING)]))
    assert (condition["status"], condition["reason"]) == ("False", "ContainersNotReady")
    assert condition["message"] == "containers with unready status: [slow]"


def test_a_finished_pod_is_not_ready():
    status = status_of([fact(DONE, ready=True)], restart="Never")
    assert ready_of(status)["reason"] == "PodCompleted"


def test_conditions_keep_the_time_of_their_last_change():
    before = status_of([fact(RUNNING, ready=True)])
    later = pod_status(
        [fact(RUNNING, ready=False)], ip="", host_ip="", started=T, now=T + 100, restart="Always", before=before
    )
    times = {c["type"]: c["lastTransitionTime"] for c in later["conditions"]}
    assert times["Ready"] == timestamp(T + 100)
    assert times["PodScheduled"] == timestamp(T + 5)


def test_container_states():
    crashed = ContainerFact("c", "image", CRASHING, Terminated(-9, T, T + 2, "last words"), 4, False)
    running = fact(RUNNING, ready=True)
    first, second = status_of([crashed, running])["containerStatuses"]
    assert first["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "again"}}
    assert first["lastState"]["terminated"] == {
        "exitCode": 137,
        "signal": 9,
        "reason": "Error",
        "message": "last words",
        "startedAt": timestamp(T),
        "finishedAt": timestamp(T + 2),
    }
    assert (first["restartCount"], first["ready"], first["started"]) == (4, False, False)
    assert second["state"] == {"running": {"startedAt": timestamp(T)}}
    assert second["containerID"] == "process://7"


@given(st.integers(0, 4_000_000_000))
def test_timestamps_round_trip(seconds: int):
    assert seconds_of(timestamp(seconds)) == seconds
