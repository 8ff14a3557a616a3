"""Whether a server can listen at an address now, and which program keeps it from that."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

_UNUSED = "127.255.255.254"
"""No instance, and hardly anything else, listens here alone."""


def bindable(address: str, port: int) -> bool:
    """Whether it can."""
    try:
        require_bindable(address, port)
    except OSError:
        return False
    return True


def require_bindable(address: str, port: int) -> None:
    """Check it before a server is made that would have to be taken down again.

    Raises:
        OSError: it cannot; the message names the address.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            raise OSError(f"cannot listen on {address}:{port}: {error.strerror}") from None


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
