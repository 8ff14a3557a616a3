"""Ports that another program holds on all addresses: others are taken where nobody chose them, else they are named."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.cluster.errors import ClusterError
from shoal.cluster.network import held_everywhere, port_owner, require_port
from shoal.cluster.ports import ControlPorts, PodPorts, Ports, choose_ports
from shoal.listening import bindable
from support.cluster import SLEEP, Cluster, container_of, python

HOLDER = """
import socket, sys
family, address = (socket.AF_INET6, "::") if sys.argv[1] == "6" else (socket.AF_INET, "0.0.0.0")
listener = socket.socket(family)
listener.bind((address, 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(family: str = "4") -> Iterator[tuple[int, int]]:
    """Another program that listens on all addresses: its pid and the port."""
    command = [sys.executable, "-c", HOLDER, family]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        yield program.pid, int(program.stdout.readline())
        program.kill()


@pytest.mark.parametrize("family", ["4", "6"])
def test_a_port_held_on_all_addresses_is_known_with_its_holder(family: str):
    with holder(family) as (pid, port):
        assert not bindable("127.64.1.1", port)
        assert held_everywhere(port)
        owner = port_owner(port, "127.64.1.1")
        assert owner is not None
        assert owner[0] == pid
        with pytest.raises(ClusterError, match=rf"in use by pid {pid} \(python.*--grpc-port"):
            require_port("127.0.0.1", port, "--grpc-port")
    assert not held_everywhere(port)


def test_a_port_held_on_one_address_is_nobody_elses_matter():
    with socket.socket() as one:
        one.bind(("127.99.3.7", 0))
        one.listen()
        port = one.getsockname()[1]
        assert not held_everywhere(port)
        owner = port_owner(port, "127.99.3.7")
        assert owner is not None
        assert owner[0] == os.getpid()
        assert port_owner(port, "127.99.3.8") is None


def test_ports_that_nobody_chose_move_out_of_the_way():
    assert choose_ports(lambda _: False) == Ports()
    held = {6443, 6444, 18000, 8085, 8001, 8090, 8082, 11881}
    ports = choose_ports(held.__contains__)
    assert ports.control == ControlPorts(api=6445, xds=18001)
    assert ports.pods == PodPorts(prestop=11882, metrics=11883)
    assert (ports.built_in.adapter, ports.built_in.grpc, ports.built_in.http) == (8087, 8003, 8002)
    with pytest.raises(ClusterError, match="port 6443 is held on all addresses"):
        choose_ports(lambda _: True)


@pytest.mark.server
async def test_a_pod_whose_port_is_held_says_by_whom_and_starts_once_it_is_free(node: Cluster):
    with holder() as (pid, port):
        await node.deploy("held", python(SLEEP, ports=[{"containerPort": port}]))
        pod = await node.settled(
            "held", lambda pod: "waiting" in container_of(pod)["state"], "the container waits for its port"
        )
        waiting = container_of(pod)["state"]["waiting"]
        assert waiting["reason"] == "PortInUse"
        assert f"port {port} is held on all addresses by pid {pid} (python" in waiting["message"]
        assert "stop that program, or choose another port in the ServingRuntime of this pod" in waiting["message"]
    await node.ready("held")


@pytest.mark.server
def test_an_adapter_or_a_mesh_whose_port_is_held_ends_with_that_and_nothing_else(tmp_path: Path):
    with holder() as (_, port):
        adapter = [str(Path(sys.executable).with_name("shoal-adapter")), "mlserver"]
        env = {
            **os.environ, "CONTAINER_MEM_REQ_BYTES": "1000000000", "POD_IP": "127.98.1.1", "PRESTOP_PORT": str(port),
            "ROOT_MODEL_DIR": str(tmp_path / "models"), "STORAGE_CONFIG_DIR": str(tmp_path),
            "PVC_MOUNTS_DIR": str(tmp_path),
        }  # fmt: skip
        mesh = [sys.executable, "-m", "shoal.controller", "--host", "127.98.1.1", "--management-port", str(port)]
        for command in (adapter, mesh):
            ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
            assert ended.returncode == 1
            assert f"cannot listen on 127.98.1.1:{port}" in ended.stderr
            assert "never awaited" not in ended.stderr
            assert "Traceback" not in ended.stderr
