"""`shoal up` where another program listens on all addresses. In a network of its own, to be in nobody's way."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import Outcome, free_ports, shoal

pytestmark = [pytest.mark.server, pytest.mark.slow]
HELD = (6443, 8001, 8082, 8090, 18080)
"""Of the API, of MLServer (gRPC and metrics), of the adapter's hooks and of the mesh."""
_CLONE_NEWNET = 0x40000000


def enter_network() -> None:
    """Leave this machine's network for an empty one, whose loopback works."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network of its own can be made")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14s", b"lo", 1, b""))  # SIOCSIFFLAGS, IFF_UP


def in_own_network(what: str, root: Path) -> str:
    """What a function of this file prints, run there."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a network")
    code = f"import test_held_ports as t; from pathlib import Path; t.enter_network(); t.{what}(Path({str(root)!r}))"
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hold(port: int) -> socket.socket:
    return socket.create_server(("0.0.0.0", port))


def _show(title: str, outcome: Outcome) -> None:
    print(f"== {title}: {outcome.code}\n{outcome.out}{outcome.err}")


def up_beside_them(root: Path) -> None:
    """Start and stop a cluster while this process holds the ports."""
    holding = [hold(port) for port in HELD]
    ports = [str(port) for port in free_ports(2)]
    try:
        _show("up", shoal("up", "-d", "--grpc-port", ports[0], "--rest-port", ports[1], state_dir=root))
        _show("status", shoal("status", state_dir=root))
        _show("runtime", shoal("get", "servingruntime", "mlserver-1.x", "-o", "yaml", state_dir=root))
    finally:
        _show("down", shoal("down", state_dir=root))
    for each in holding:
        each.close()


def test_ports_that_nobody_chose_are_replaced(tmp_path: Path):
    printed = in_own_network("up_beside_them", tmp_path)
    assert "== up: 0" in printed, printed
    assert "== status: 0" in printed, printed
    assert ":6444" in printed
    assert "pods ready (2/2)" in printed
    assert "grpcDataEndpoint: port:8003" in printed
    log = (tmp_path / "logs" / "supervisor.log").read_text()
    for port in HELD:
        assert f"port {port} is held on all addresses by pid " in log
    everything = log + "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "never awaited" not in everything


def up_without_the_gateways_port(root: Path) -> None:
    """Start a cluster whose port was chosen, and is held."""
    with hold(8033):
        _show("up", shoal("up", "-d", state_dir=root, timeout=30))


def test_a_port_that_is_chosen_or_documented_is_named_at_once(tmp_path: Path):
    printed = in_own_network("up_without_the_gateways_port", tmp_path)
    assert "== up: 1" in printed, printed
    assert "error: port 8033 on 127.0.0.1 is in use by pid " in printed
    assert "; stop it or choose another with --grpc-port" in printed


RUNTIME = """\
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: chosen}
spec:
  multiModel: true
  supportedModelFormats: [{name: chosen}]
  grpcEndpoint: port:8085
  grpcDataEndpoint: port:9123
  containers: [{name: mlserver, image: "mlserver:1", resources: {requests: {memory: 300Mi}}}]
  builtInAdapter: {serverType: mlserver, runtimeManagementPort: 9123, memBufferBytes: 134217728}
"""


def up_with_a_runtimes_port_held(root: Path) -> None:
    """Start a cluster with a runtime whose port is held by the time it starts again."""
    ports = [str(port) for port in free_ports(2)]
    try:
        _show("first", shoal("up", "-d", "--grpc-port", ports[0], "--rest-port", ports[1], state_dir=root))
        _show("apply", shoal("apply", "-f", "-", state_dir=root, stdin=RUNTIME))
        _show("down", shoal("down", state_dir=root))
        with hold(9123):
            _show("again", shoal("up", "-d", state_dir=root, timeout=60))
    finally:
        shoal("down", state_dir=root)


def test_a_runtimes_port_is_named_at_once(tmp_path: Path):
    printed = in_own_network("up_with_a_runtimes_port_held", tmp_path)
    assert "== again: 1" in printed, printed
    assert "error: the cluster runs, but its pods cannot start (" in printed
    assert ": PortInUse: port 9123 is held on all addresses by pid " in printed
    assert "stop that program, or choose another port in the ServingRuntime of this pod" in printed
