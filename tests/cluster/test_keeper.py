"""Parts of the control plane: those that end are started again, and so are those that hang."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from shoal.cluster.control_plane import ControlPlanePart
from shoal.cluster.keeper import Keeper, Patience
from shoal.cluster.kube_client import Object
from shoal.cluster.report import PartState
from shoal.cluster.supervisor import first_problem
from waiting import until

pytestmark = pytest.mark.server

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
open(sys.argv[1], "w").write(str(server.server_port))
server.serve_forever()
"""


class Kept:
    def __init__(self, root: Path) -> None:
        self.port = root / "port"
        command = [sys.executable, "-c", SERVER, str(self.port)]
        part = ControlPlanePart("web", "web server", lambda: command, self.ask, self.ask)
        self.reports: list[tuple[PartState, str]] = []
        patience = Patience(period=0.05, timeout=0.3, failures=3, proof=0.5)
        self.keeper = Keeper(part, root / "web.log", root, dict(os.environ), self.changed, patience)

    async def ask(self) -> str | None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(self.port.read_text()))
        except (OSError, ValueError) as error:
            return str(error)
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            return None if await reader.readline() else "empty answer"
        finally:
            writer.close()

    def changed(self) -> None:
        self.reports.append((self.keeper.report.state, self.keeper.report.message))


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    web = Kept(tmp_path)
    task = asyncio.create_task(web.keeper.run())
    await web.keeper.wait_ready(20)
    yield web
    task.cancel()
    await web.keeper.stop(1.0)
    await asyncio.gather(task, return_exceptions=True)


async def ready_as_another(keeper: Keeper, pid: int | None) -> None:
    report = keeper.report
    await until(lambda: report.state is PartState.READY and report.pid != pid, f"another than {report} to be ready", 30)


async def test_a_part_that_hangs_is_killed_and_started_again(kept: Kept):
    pid = kept.keeper.report.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await ready_as_another(kept.keeper, pid)
    assert kept.keeper.report.restarts == 1
    assert (PartState.BACKING_OFF, "hung and was killed: no answer within 0.3 s") in kept.reports


async def kill_again_and_again(keeper: Keeper, *served: float) -> None:
    for seconds in served:
        pid = keeper.report.pid
        assert pid is not None
        await asyncio.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        await ready_as_another(keeper, pid)


async def test_a_part_that_served_is_started_again_at_once_however_often_it_is_killed(kept: Kept, caplog):
    await kill_again_and_again(kept.keeper, 0.6, 0.6, 0.6)
    assert caplog.text.count("; next start in 0.2 s") == 3


async def test_a_part_that_ends_as_soon_as_it_is_ready_is_started_less_and_less_often(kept: Kept, caplog):
    await kill_again_and_again(kept.keeper, 0.6, 0.0, 0.0)
    delays = [line.rpartition("; next start in ")[2] for line in caplog.text.splitlines() if "next start" in line]
    assert delays == ["0.2 s", "0.4 s", "0.8 s"]


async def test_a_part_is_started_again_whatever_its_probe_raises(kept: Kept):
    """A connection that breaks while the part ends is the least of it."""
    broken = asyncio.Event()
    broken.set()

    async def ask() -> str | None:
        if broken.is_set():
            raise RuntimeError("the probe is broken")
        return await kept.ask()

    pid = kept.keeper.report.pid
    kept.keeper.part = replace(kept.keeper.part, ready=ask, alive=ask)
    ended = (PartState.BACKING_OFF, "hung and was killed: RuntimeError: the probe is broken")
    await until(lambda: ended in kept.reports)
    broken.clear()
    await ready_as_another(kept.keeper, pid)
    assert kept.keeper.report.restarts == 1


async def test_a_part_is_renewed_without_being_told_to_have_failed(kept: Kept):
    pid = kept.keeper.report.pid
    await kept.keeper.renew(5.0, "other settings")
    await ready_as_another(kept.keeper, pid)
    assert kept.keeper.report.restarts == 0
    assert PartState.BACKING_OFF not in {state for state, _ in kept.reports}


async def test_a_part_that_pauses_for_a_moment_is_left_alone(kept: Kept):
    pid = kept.keeper.report.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(0.2)  # less than one answer may take
    os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(0.5)
    assert kept.keeper.report.pid == pid
    assert kept.keeper.report.restarts == 0


def pod(name: str, **state: object) -> Object:
    return {"metadata": {"name": name}, "status": {"containerStatuses": [{"name": "mlserver", "state": state}]}}


def test_the_first_problem_of_pods_names_pod_container_and_reason():
    starting = pod("a", waiting={"reason": "ContainerCreating"})
    broken = pod("b", waiting={"reason": "CrashLoopBackOff", "message": "no module named mlserver"})
    assert first_problem([{"metadata": {"name": "new"}}, starting, pod("c", running={})]) == ""
    assert first_problem([starting, broken]) == "b: mlserver: CrashLoopBackOff: no module named mlserver"
