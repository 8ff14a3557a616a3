"""How the end of a model server is read from its pod's status."""

from __future__ import annotations

import copy

import pytest

from shoal.controller.discovery import PodDiscovery
from shoal.controller.endings import cause_of, words_of
from shoal.core.suspicion import Cause
from shoal.resources.lastwords import telling_line
from support.controller import RecordingMesh

SEGFAULT = """INFO:     server started
Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "ctypes/__init__.py", line 517 in string_at
"""
TRACEBACK = """Traceback (most recent call last):
  File "model.py", line 3, in load
MemoryError: no memory for the weights
shutting down
"""


@pytest.mark.parametrize(
    ("terminated", "cause", "words"),
    [
        ({"exitCode": 3, "reason": "Error"}, Cause.CRASHED, "exit code 3"),
        ({"exitCode": 0, "reason": "Completed"}, Cause.CRASHED, "exit code 0"),
        (
            {"exitCode": 139, "reason": "Error", "message": SEGFAULT},
            Cause.CRASHED,
            "exit code 139 (SIGSEGV): Fatal Python error: Segmentation fault",
        ),
        ({"exitCode": 137, "reason": "Error"}, Cause.KILLED, "exit code 137 (SIGKILL)"),
        ({"exitCode": 143, "reason": "Error"}, Cause.KILLED, "exit code 143 (SIGTERM)"),
        (
            {"exitCode": 137, "reason": "OOMKilled", "message": TRACEBACK},
            Cause.CRASHED,
            "it was killed because it took more memory than it may: MemoryError: no memory for the weights",
        ),
        ({"exitCode": 255, "message": "\n\n"}, Cause.CRASHED, "exit code 255"),
    ],
)
def test_cause_and_words(terminated: dict[str, object], cause: Cause, words: str) -> None:
    assert (cause_of(terminated), words_of(terminated)) == (cause, words)


def test_without_an_error_the_last_line_tells_most() -> None:
    assert telling_line("one\ntwo\n\n") == "two"
    assert telling_line("") == ""
    assert telling_line("cannot open the licence\nINFO: request answered\n") == "cannot open the licence"
    assert telling_line("INFO: loaded\n") == ""


def test_words_are_bounded() -> None:
    assert len(words_of({"exitCode": 1, "message": "x" * 5000})) == 300


POD = {
    "metadata": {
        "name": "p1",
        "labels": {"modelmesh-service": "modelmesh-serving"},
        "annotations": {
            "shoal.dev/runtime": "mlserver-1.x",
            "shoal.dev/management-port": "8085",
            "shoal.dev/grpc-port": "8001",
        },
    },
    "status": {"phase": "Running", "podIP": "127.70.1.10", "containerStatuses": []},
}


def pod(**containers: dict[str, object]) -> dict[str, object]:
    document = copy.deepcopy(POD)
    document["status"]["containerStatuses"] = [
        {"name": name.replace("_", "-"), **status} for name, status in containers.items()
    ]
    return document


def ended(code: int, at: str) -> dict[str, object]:
    return {"terminated": {"exitCode": code, "startedAt": "t0", "finishedAt": at}}


def test_each_end_of_a_model_server_is_told_once_and_those_of_before_are_not() -> None:
    mesh = RecordingMesh()
    discovery = PodDiscovery(mesh)
    running = {"running": {"startedAt": "t1"}}
    discovery.changed("p1", pod(mlserver={"state": running, "lastState": ended(1, "t1")}))
    discovery.changed("p1", pod(mlserver={"state": ended(3, "t2"), "lastState": ended(1, "t1")}))
    discovery.changed("p1", pod(mlserver={"state": {"waiting": {}}, "lastState": ended(3, "t2")}))
    discovery.changed("p1", pod(mlserver={"state": running, "lastState": ended(3, "t2")}))
    discovery.changed("p1", pod(mlserver={"state": running, "lastState": ended(3, "t3")}))
    assert [call for call in mesh.calls if call.startswith("exited")] == [
        "exited p1: crashed: exit code 3",
        "exited p1: crashed: exit code 3",
    ]


def test_the_end_of_an_adapter_is_no_end_of_a_model_server() -> None:
    mesh = RecordingMesh()
    discovery = PodDiscovery(mesh)
    for at in ("t1", "t2"):
        discovery.changed("p1", pod(mlserver_adapter={"state": ended(3, at)}, puller={"state": ended(3, at)}))
    assert not [call for call in mesh.calls if call.startswith("exited")]
