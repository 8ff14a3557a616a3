"""What the parts of a cluster do where nothing can be written any more."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.cluster import lock
from shoal.cluster.control_plane import ControlPlanePart
from shoal.cluster.errors import ClusterError
from shoal.cluster.keeper import Keeper
from shoal.cluster.kubelet.containers import LocalCommand
from shoal.cluster.kubelet.podstatus import ContainerFact, Waiting
from shoal.cluster.kubelet.runner import Runner
from shoal.cluster.report import ClusterAddresses, ClusterPhase, ClusterReport, read_report, write_report
from shoal.cluster.settings import ClusterSettings, load_settings
from shoal.cluster.supervisor import prepare_state_dir
from shoal.gateway.bootstrap import write_bootstrap
from shoal.gateway.settings import GatewaySettings
from shoal.process import BackoffPolicy, trim_log
from support.disk import SmallDisk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 4) as disk:
        yield disk


def test_a_log_that_cannot_be_moved_does_not_grow_on(disk: SmallDisk):
    log = disk.root / "c.log"
    log.write_bytes(b"x" * 2_000_000)
    disk.fill()
    assert trim_log(log, limit=1_000_000)
    assert log.stat().st_size == 0
    assert not log.with_name("c.log.1").exists()  # half of it would only take space
    assert disk.free_bytes >= 2_000_000


def test_what_was_written_before_stays_whole(disk: SmallDisk):
    settings = ClusterSettings(state_dir=disk.root)
    settings.save()
    report = ClusterReport(
        pid=1, namespace="n", addresses=ClusterAddresses(grpc="", rest="", api="", admin=""), message="x" * 10_000
    )
    write_report(disk.root / "status.json", report)
    gateway, bootstrap = GatewaySettings(), disk.root / "envoy.json"
    write_bootstrap(gateway, bootstrap)
    disk.fill()
    files = sorted(disk.root.iterdir())
    with pytest.raises(OSError, match="No space left"):
        settings.save()
    assert load_settings(disk.root) == settings
    report.phase = ClusterPhase.READY
    write_report(disk.root / "status.json", report)
    kept = read_report(disk.root / "status.json")
    assert kept is not None
    assert kept.phase is ClusterPhase.STARTING
    write_bootstrap(gateway, bootstrap)  # it is the same: a gateway that ended can be started again
    assert sorted(disk.root.iterdir()) == files


def test_a_start_is_refused_by_name(disk: SmallDisk):
    disk.fill()
    with pytest.raises(ClusterError, match=f"the disk of {disk.root} is full: free some space or choose another"):
        prepare_state_dir(ClusterSettings(state_dir=disk.root))
    with pytest.raises(ClusterError, match=f"the disk of {disk.root} is full"), lock.held(disk.root / "lock"):
        raise AssertionError("held without having said who holds it")


async def test_a_part_says_why_it_cannot_be_started(tmp_path: Path):
    def command() -> list[str]:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    async def ready() -> str | None:
        return None

    full = True
    said: list[str] = []
    keeper = Keeper(
        ControlPlanePart("web", "web server", command, ready, ready), tmp_path / "web.log", tmp_path, dict(os.environ),
        lambda: said.append(keeper.report.message),
    )  # fmt: skip
    task = asyncio.create_task(keeper.run())
    try:
        async with asyncio.timeout(20):
            while not said:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert said[0] == "cannot be started: No space left on device"
        full = False
        await keeper.wait_ready(20, most_failures=1000)
    finally:
        task.cancel()
        await keeper.stop(1.0)
        await asyncio.gather(task, return_exceptions=True)


async def test_a_container_whose_volumes_cannot_be_written_waits_for_space(tmp_path: Path):
    def resolve() -> LocalCommand:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/volumes/secret/.key~")

    async def report(kind: str, reason: str, message: str) -> None:
        events.append((reason, message))

    events: list[tuple[str, str]] = []
    fact = ContainerFact("main", "image")
    runner = Runner(
        {"name": "main"}, fact, ip="127.0.0.1", log_path=tmp_path / "log", restart="Always", policy=BackoffPolicy(),
        resolve=resolve, changed=lambda: None, report=report,
    )  # fmt: skip
    task = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(20):
            while not events and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        why = "the pod's volumes cannot be written: /volumes/secret/.key~: No space left on device"
        assert fact.state == Waiting("RunContainerError", why)
        assert events == [("Failed", f"main: {why}")]
    finally:
        await runner.stop(1.0)
        await task
