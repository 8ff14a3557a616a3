"""Addresses, locks, logs and volumes on this machine."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from shoal.cluster import lock
from shoal.cluster.errors import AlreadyRunningError, ClusterError
from shoal.cluster.kubelet.containers import CannotStart
from shoal.cluster.kubelet.volumes import Volumes, sync_files
from shoal.cluster.network import PodAddresses, Subnet, bindable, choose_subnet, port_owner, require_port
from shoal.process import Child, trim_log


def test_a_state_directory_keeps_its_subnet_unless_it_clashes():
    first = choose_subnet(Path("/a"), [1], lambda host, port: True)
    assert choose_subnet(Path("/a"), [1], lambda host, port: True) == first
    other = choose_subnet(Path("/a"), [1], lambda host, port: host != first.control_plane)
    assert other != first
    assert 64 <= other.a <= 127
    with pytest.raises(ClusterError) as none:
        choose_subnet(Path("/a"), [1], lambda host, port: False)
    assert str(none.value) == (
        "none of 64 loopback subnets (127.64.0.0 to 127.127.255.0) is free on ports 1; "
        "stop other instances of Shoal first"
    )


def test_pod_addresses_are_unique_and_not_reused_at_once():
    addresses = PodAddresses(Subnet(64, 1))
    first = addresses.give("a")
    assert addresses.give("a") == first == "127.64.1.10"
    addresses.release("a")
    assert addresses.give("b") == "127.64.1.11"
    assert addresses.adopt("c", "127.64.1.12")
    assert not addresses.adopt("d", "127.64.1.12")
    assert not addresses.adopt("d", "10.0.0.1")
    assert addresses.give("d") == "127.64.1.13"
    for number in range(238):
        addresses.give(f"more-{number}")
    with pytest.raises(ClusterError, match="addresses are taken"):
        addresses.give("one too many")


def test_a_taken_port_names_its_holder():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert not bindable("127.0.0.1", port)
        owner = port_owner(port, "127.0.0.1")
        assert owner is not None
        assert owner[0] == os.getpid()
        with pytest.raises(ClusterError, match=f"pid {os.getpid()}.*--rest-port"):
            require_port("127.0.0.1", port, "--rest-port")


def test_one_lock_a_state_directory(tmp_path: Path):
    path = tmp_path / "lock"
    assert lock.holder(path) is None
    with lock.held(path):
        assert lock.holder(path) == os.getpid()
        with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}"), lock.held(path):
            raise AssertionError("held twice")
    assert lock.holder(path) is None


def test_the_number_of_an_earlier_holder_is_nobodys(tmp_path: Path):
    path = tmp_path / "lock"
    path.write_text("1\n")  # a process lives that has this number, and has nothing to do with it
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock.holder(path) == -1


async def test_a_process_that_got_the_number_of_an_ended_one_is_left_alone():
    other = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:

        async def ended() -> int:
            return 0

        child = Child(SimpleNamespace(pid=other.pid, returncode=0, wait=ended), 0.0, Path("log"))  # type: ignore[arg-type]
        assert await child.wait() == 0
        await child.stop(1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(other.wait()), 0.3)
    finally:
        if other.returncode is None:
            other.kill()
        await other.wait()


def test_long_logs_are_moved_aside(tmp_path: Path):
    path = tmp_path / "c.log"
    path.write_bytes(b"x" * 100)
    assert not trim_log(path, limit=100)
    assert trim_log(path, limit=99)
    assert (path.stat().st_size, (tmp_path / "c.log.1").stat().st_size) == (0, 100)
    assert not trim_log(tmp_path / "absent")


def test_files_follow_and_odd_names_stay_out(tmp_path: Path):
    sync_files(tmp_path / "v", {"a": b"1", "../b": b"2", "..": b"3"})
    assert [path.name for path in (tmp_path / "v").iterdir()] == ["a"]
    assert not (tmp_path / "b").exists()
    sync_files(tmp_path / "v", {"c": b"4"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "v").iterdir()} == {"c": b"4"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "v", "secret": {"secretName": "gone"}}, "secret 'gone' not found"),
        ({"name": "v", "configMap": {"name": "gone"}}, "configmap 'gone' not found"),
        ({"name": "v", "persistentVolumeClaim": {"claimName": "gone"}}, "shoal pvc create gone"),
        ({"name": "v", "persistentVolumeClaim": {"claimName": "../up"}}, "not found"),
        ({"name": "v", "hostPath": {"path": "/"}}, "of kind hostPath; the embedded cluster has emptyDir"),
        ({"name": "../v", "emptyDir": {}}, "not a DNS label"),
    ],
)
def test_volumes_that_cannot_be(spec: dict[str, object], message: str, tmp_path: Path):
    volumes = Volumes([spec], tmp_path / "volumes", tmp_path / "pvcs", lambda name: None, lambda name: None)
    with pytest.raises(CannotStart, match=message) as caught:
        volumes.prepare()
    assert caught.value.reason == "CreateContainerConfigError"


def test_chosen_items_and_optional_secrets(tmp_path: Path):
    secret = {"data": {"key": base64.b64encode(b"v").decode(), "other": "!!"}}
    specs = [
        {"name": "some", "secret": {"secretName": "s", "items": [{"key": "key", "path": "file"}]}},
        {"name": "none", "secret": {"secretName": "gone", "optional": True}},
    ]
    volumes = Volumes(specs, tmp_path, tmp_path, {"s": secret}.get, lambda name: None)
    directories = volumes.prepare()
    assert {path.name: path.read_bytes() for path in Path(directories["some"]).iterdir()} == {"file": b"v"}
    assert list(Path(directories["none"]).iterdir()) == []
