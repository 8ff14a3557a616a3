"""Finding a server's process and reading what it uses, on this machine's /proc."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal_runtime import processes

MIB = 1024 * 1024
SERVER = """
import socket, subprocess, sys
held = bytearray(64 * 1024 * 1024)
child = subprocess.Popen([sys.executable, "-c", "held = bytearray(32 * 1024 * 1024); print('up', flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, int]]:
    """Process id and port of a server that holds 64 MiB, with a child that holds 32 MiB."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.pid, int(process.stdout.readline())
    process.communicate(timeout=20)


def test_the_listening_process_is_found(server: tuple[int, int]) -> None:
    pid, port = server
    found = processes.server_process("127.0.0.1", port)
    assert found is not None
    assert found.pid == pid
    assert processes.process(pid) == found


def test_another_address_with_the_same_port_is_another_server(server: tuple[int, int]) -> None:
    _, port = server
    assert processes.server_process("127.0.0.2", port) is None
    with socket.create_server(("127.0.0.2", port)):
        found = processes.server_process("127.0.0.2", port)
    assert found is not None
    assert found.pid == os.getpid()


def test_children_count(server: tuple[int, int]) -> None:
    root = processes.process(server[0])
    assert root is not None
    for measured in (processes.private_bytes(root), processes.proportional_bytes(root)):
        assert measured is not None
        assert 96 * MIB < measured < 200 * MIB


def test_a_process_that_is_gone_or_another_by_now_is_not_measured(server: tuple[int, int]) -> None:
    other = processes.ServerProcess(server[0], 1)
    assert processes.private_bytes(other) is None
    assert processes.proportional_bytes(other) is None


def test_without_a_visible_proc_nothing_is_known(tmp_path: Path) -> None:
    assert processes.server_process("127.0.0.1", 80, tmp_path) is None
    assert processes.process(1, tmp_path) is None
    assert processes.private_bytes(processes.ServerProcess(1, 1), tmp_path) is None
