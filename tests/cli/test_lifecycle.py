"""`shoal up` and `down`: crashes, restarts, ports that are taken."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from shoal.process import leftovers
from support.cli import CONFIG, free_ports, shoal
from waiting import eventually

pytestmark = pytest.mark.server


def parts(root: Path) -> dict[str, dict[str, object]]:
    return json.loads((root / "status.json").read_text())["parts"]


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = shoal("up", "--detach", "--grpc-port", str(port), state_dir=tmp_path / "s")
    assert done.code == 1
    assert f"port {port} on 127.0.0.1 is in use by pid {os.getpid()}" in done.err
    assert "--grpc-port" in done.err
    assert leftovers(str(tmp_path / "s")) == []


def test_a_state_directory_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    done = shoal("up", state_dir=tmp_path / "file" / "state")
    assert done.code == 1
    assert "choose another --state-dir" in done.err


def test_parts_come_back_a_killed_supervisor_leaves_nothing_and_up_brings_all_back(tmp_path: Path):
    root = tmp_path / "state"
    grpc, rest = free_ports(2)
    assert shoal("up", "-d", "--grpc-port", str(grpc), "--rest-port", str(rest), state_dir=root).code == 0
    try:
        config = CONFIG.format(name="kept", value="yes")
        assert shoal("apply", "-f", "-", state_dir=root, stdin=config).code == 0
        for name in ("gateway", "mesh", "apiserver"):
            pid = parts(root)[name]["pid"]
            os.kill(int(str(pid)), signal.SIGKILL)
            eventually(
                lambda name=name, pid=pid: parts(root)[name]["state"] == "Ready" and parts(root)[name]["pid"] != pid,
                f"{name} to be back",
            )
        supervisor = int((root / "lock").read_text())
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: not leftovers(str(root)), "the children to end with their supervisor")
        assert shoal("status", state_dir=root).code == 1
        # The ports are those of the first start: nobody says them again.
        again = shoal("up", "-d", state_dir=root)
        assert again.code == 0, again.err
        assert f"127.0.0.1:{grpc}" in again.err
        assert "yes" in shoal("get", "cm", "kept", "-o", "yaml", state_dir=root).out
    finally:
        down = shoal("down", state_dir=root)
    assert down.code == 0, down.err
    assert leftovers(str(root)) == []
    assert "nothing runs" in shoal("down", state_dir=root).err
