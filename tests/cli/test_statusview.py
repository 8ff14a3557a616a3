"""What `shoal status` makes of a report: nothing that is not true any more is shown as if it were."""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from shoal import process
from shoal.cli.cluster.status import faults_of, judged, problem_of
from shoal.cluster.report import STALE_SECONDS, ClusterAddresses, ClusterPhase, ClusterReport, PartReport, PartState
from shoal.disk import FULL_BYTES, LOW_BYTES, Disk

ROOMY = Disk(Path("/state"), LOW_BYTES)
LIVING = {"pid": os.getpid(), "started": process.started(os.getpid())}
READY = dict.fromkeys(("apiserver", "mesh", "gateway"), "Ready")


def report(age: float = 0.0, **parts: PartReport) -> ClusterReport:
    addresses = ClusterAddresses(grpc="", rest="", api="", admin="")
    made = ClusterReport(pid=1, phase=ClusterPhase.READY, namespace="n", addresses=addresses, parts=parts)
    made.written = time.time() - age
    return made


def test_a_part_whose_process_lives_is_shown_as_reported():
    part = PartReport(state=PartState.READY, message="fine", **LIVING)
    assert judged(part, report()) == ("Ready", "fine")


@pytest.mark.parametrize(
    "process_of_it",
    [{"pid": 2**22 + 1, "started": 5}, {"pid": os.getpid(), "started": 5}],
    ids=["no such process", "the number is another process's now"],
)
def test_a_part_whose_process_is_gone_is_dead_whatever_was_reported(process_of_it: dict[str, int]):
    part = PartReport(state=PartState.READY, **process_of_it)
    assert judged(part, report(30)) == ("Dead", "the process does not live any more; it was Ready 30s ago")


def test_an_old_report_says_nothing_about_now():
    old = report(STALE_SECONDS + 10)
    part = PartReport(state=PartState.READY, **LIVING)
    assert judged(part, old) == ("Unknown", "was Ready 30s ago; its process lives")
    assert judged(PartReport(state=PartState.READY, message="2/2"), old) == ("Unknown", "was Ready (2/2) 30s ago")
    assert "the supervisor (pid 7) has not written its report for 30s" in problem_of(old, ROOMY, READY, 7)


def test_what_is_not_ready_is_named():
    assert problem_of(report(), ROOMY, READY, 7) == ""
    assert problem_of(report(), ROOMY, READY | {"mesh": "Dead"}, 7) == "the cluster is not ready: mesh is Dead"


def test_a_full_disk_comes_first():
    full = Disk(Path("/state"), FULL_BYTES - 1)
    assert problem_of(report(100), full, READY, 7).startswith("the disk of /state is full: 64.0 MiB are free.")
    without_inodes = Disk(Path("/state"), LOW_BYTES, out_of_files=True)
    assert "no further file fits" in problem_of(report(), without_inodes, READY, 7)


class _Faults(BaseHTTPRequestHandler):
    document: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/faults" else 404)
        self.end_headers()
        self.wfile.write(self.document)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.mark.parametrize(
    ("document", "warning"),
    [
        ({"count": 0, "last": None}, ""),
        ("no object", ""),
        (
            {"count": 2, "last": {"at": 0.0, "message": "Tick broke the core: KeyError: 'x'"}},
            "warning: the mesh met a defect of its own 2 times, the last time ",
        ),
    ],
)
def test_defects_of_the_mesh_are_a_warning(document: object, warning: str) -> None:
    handler = type("Handler", (_Faults,), {"document": json.dumps(document).encode()})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        said = faults_of(f"http://127.0.0.1:{server.server_port}")
        thread.join(10)
    assert said.startswith(warning)
    assert bool(said) == bool(warning)
    assert not warning or "ago: Tick broke the core: KeyError: 'x'. It goes on; `shoal logs mesh`" in said


def test_a_mesh_that_does_not_answer_is_no_defect() -> None:
    assert faults_of("http://127.0.0.1:9") == ""
