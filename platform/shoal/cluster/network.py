"""Addresses of an instance: its own loopback subnet, and who sits on a port that is taken.

Linux answers on all of 127.0.0.0/8, so every instance takes a /24 of it and every pod in it has an address of its own
with the very ports its ServingRuntime declares, as on a cluster.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from shoal.cluster.errors import ClusterError
from shoal.listening import bindable, by, held_everywhere, port_owner

FIRST_POD = 10
LAST_POD = 250
_SUBNETS = 64 * 256
_TRIES = 64


@dataclass(frozen=True, slots=True)
class Subnet:
    """The /24 `127.A.B.0`."""

    a: int
    b: int

    def host(self, number: int) -> str:
        """The address with this last part."""
        return f"127.{self.a}.{self.b}.{number}"

    @property
    def control_plane(self) -> str:
        """Where the API server and the mesh listen."""
        return self.host(1)

    def __contains__(self, address: str) -> bool:
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(address) in ipaddress.ip_network(f"127.{self.a}.{self.b}.0/24")
        return False


def candidates(state_dir: Path) -> Iterable[Subnet]:
    """Subnets to try for a state directory, the same ones in the same order every time."""
    start = int.from_bytes(hashlib.sha256(os.fsencode(state_dir)).digest()[:4], "big")
    for step in range(_TRIES):
        index = (start + step * 257) % _SUBNETS
        yield Subnet(64 + index // 256, index % 256)


def choose_subnet(state_dir: Path, ports: Iterable[int], can_bind: Callable[[str, int], bool] | None = None) -> Subnet:
    """The first candidate whose control-plane address has all `ports` free.

    Raises:
        ClusterError: every candidate clashes.
    """
    probe = can_bind or bindable
    wanted = tuple(ports)
    for subnet in candidates(state_dir):
        if all(probe(subnet.control_plane, port) for port in wanted):
            return subnet
    raise ClusterError(
        f"none of {_TRIES} loopback subnets (127.64.0.0 to 127.127.255.0) is free on ports "
        f"{', '.join(map(str, wanted))}; stop other instances of Shoal first"
    )


def require_port(address: str, port: int, option: str) -> None:
    """Check that a server can listen there.

    Raises:
        ClusterError: it cannot; the message names who holds the port and the option to change it.
    """
    if bindable(address, port):
        return
    owner = port_owner(port, address)
    if 0 < port < 1024 and os.geteuid() != 0 and owner is None:
        raise ClusterError(f"port {port} needs root; choose one above 1023 with {option}")
    raise ClusterError(f"port {port} on {address} is in use{by(owner)}; stop it or choose another with {option}")


def taken_from_all(ports: Iterable[int], own: Callable[[int], bool]) -> str:
    """The first of these ports that a program keeps from everybody, and which; empty if there is none.

    `own` says of a process whether it is one of the instance itself, whose containers see to each other.
    """
    for port in ports:
        if held_everywhere(port):
            owner = port_owner(port, "")
            if owner is None or not own(owner[0]):
                return f"port {port} is held on all addresses{by(owner)}"
    return ""


@dataclass(slots=True)
class PodAddresses:
    """Gives pods addresses, each new one after the last given, so that an address is not reused at once."""

    subnet: Subnet
    taken: dict[str, str] = field(default_factory=dict)
    """Address by pod name."""
    _next: int = FIRST_POD

    def adopt(self, pod: str, address: str) -> bool:
        """Keep the address a pod had before. False if it is not of this subnet or another pod has it."""
        if address not in self.subnet or address in self.taken.values():
            return False
        self.taken[pod] = address
        return True

    def give(self, pod: str) -> str:
        """The pod's address, a new one if it has none.

        Raises:
            ClusterError: all addresses are taken.
        """
        if pod in self.taken:
            return self.taken[pod]
        used = set(self.taken.values())
        count = LAST_POD - FIRST_POD + 1
        for step in range(count):
            number = FIRST_POD + (self._next - FIRST_POD + step) % count
            address = self.subnet.host(number)
            if address not in used:
                self._next = FIRST_POD + (number - FIRST_POD + 1) % count
                self.taken[pod] = address
                return address
        raise ClusterError(f"all {count} pod addresses are taken; lower the replicas of some ServingRuntimes")

    def release(self, pod: str) -> None:
        """The pod is gone."""
        self.taken.pop(pod, None)
