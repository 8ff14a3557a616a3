"""A whole cluster whose disk fills up: it says so, goes on serving, loses nothing, and needs nobody afterwards."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from shoal import process
from support.cli import CONFIG, free_ports, shoal
from support.disk import small_disk
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]


def row(root: Path, part: str) -> tuple[str, int]:
    """State and pid of a part as `shoal status` shows them."""
    lines = [line.split() for line in shoal("status", state_dir=root).out.splitlines()]
    _, state, _, pid, *_ = next(line for line in lines if line and line[0] == part)
    return state, int(pid)


def test_a_full_disk_is_said_nothing_is_lost_and_all_goes_on_by_itself(tmp_path: Path):
    with small_disk(tmp_path / "state", 300) as disk:
        root = disk.root
        grpc, rest = free_ports(2)
        ports = ("--grpc-port", str(grpc), "--rest-port", str(rest), "--pods-per-runtime", "1")
        up = shoal("up", "-d", *ports, state_dir=root)
        try:
            assert up.code == 0, up.err
            status = shoal("status", state_dir=root)
            assert status.code == 0, status.err
            assert f"warning: the disk of {root} is nearly full: " in status.err
            assert shoal("apply", "-f", "-", state_dir=root, stdin=CONFIG.format(name="kept", value="1")).code == 0

            disk.fill()
            status = shoal("status", state_dir=root)
            assert status.code == 1
            assert f"error: the disk of {root} is full: 0 B are free. Free some space there" in status.err
            large = CONFIG.format(name="refused", value="x" * 100_000)
            refused = shoal("apply", "-f", "-", state_dir=root, stdin=large)
            assert refused.code == 1
            assert (
                f"the disk of {root} is full: nothing was changed; free some space there and try again" in refused.err
            )

            _, pid = row(root, "mesh")
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: process.started(pid) is None, "the mesh to be dead")
            state, shown = row(root, "mesh")
            assert state != "Ready" or process.started(shown) is not None
            assert (state, shown) != ("Ready", pid)

            disk.clear()
            eventually(lambda: shoal("status", state_dir=root).code == 0, "everything to be ready again")
            state, shown = row(root, "mesh")
            assert state == "Ready"
            assert process.started(shown) is not None
            after = shoal("apply", "-f", "-", state_dir=root, stdin=CONFIG.format(name="after", value="2"))
            assert after.code == 0, after.err
            names = [
                item["metadata"]["name"]
                for item in json.loads(shoal("get", "cm", "-o", "json", state_dir=root).out)["items"]
            ]
            assert {"kept", "after"} <= set(names)
            assert "refused" not in names
        finally:
            shoal("down", state_dir=root)
