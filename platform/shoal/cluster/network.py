"""Addresses of an instance: its own loopback subnet, and who sits on a port that is taken.

Linux answers on all of 127.0.0.0/8, so every instance takes a /24 of it and every pod in it has an address of its own
with the very ports its ServingRuntime declares, as on a cluster.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from shoal.cluster.errors import ClusterError
from shoal.listening import bindable

FIRST_POD = 10
LAST_POD = 250
_SUBNETS = 64 * 256
_TRIES = 64
_UNUSED = "127.255.255.254"
"""No instance, and hardly anything else, listens here alone."""


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


def by(owner: tuple[int, str] | None) -> str:
    """Who holds a port, as the end of a sentence."""
    return f" by pid {owner[0]} ({owner[1]})" if owner else " by another user's process"


def held_everywhere(port: int) -> bool:
    """Whether some program listens on all addresses of this machine, so that nobody else can on any of them."""
    return any(each.everywhere for each in _listeners(port)) and not bindable(_UNUSED, port)


def port_owner(port: int, address: str) -> tuple[int, str] | None:
    """The pid and name of the process that keeps others from listening there, if this user may see it."""
    inodes = {each.inode for each in _listeners(port) if each.everywhere or each.address == address}
    for process in Path("/proc").iterdir() if inodes else ():
        if process.name.isdigit() and _holds(process, inodes):
            with contextlib.suppress(OSError):
                return int(process.name), (process / "comm").read_text().strip()
    return None


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


@dataclass(frozen=True, slots=True)
class _Listener:
    address: str
    inode: str

    @property
    def everywhere(self) -> bool:
        return self.address in ("0.0.0.0", "::")


def _listeners(port: int) -> list[_Listener]:
    """Everything that listens on a TCP port, as the kernel lists it."""
    found: list[_Listener] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                address, number = columns[1].rsplit(":", 1)
                if columns[3] == "0A" and int(number, 16) == port:
                    found.append(_Listener(_address(address), f"socket:[{columns[9]}]"))
    return found


def _address(text: str) -> str:
    """An address as the kernel writes it: words of four bytes, each in the machine's own order."""
    words = (int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8))
    address = ipaddress.ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _holds(process: Path, inodes: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in inodes:
                    return True
    return False


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
