"""Endpoints inside a pod as ServingRuntimes write them: `port:8001`, `unix:/path` or `unix:///path`."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuntimeAddress:
    """A port, or a unix socket when `port` is 0."""

    port: int = 0
    socket: str = ""

    @property
    def socket_directory(self) -> str:
        """The directory the socket is in."""
        return posixpath.dirname(self.socket)


def parse_endpoint(text: str) -> RuntimeAddress:
    """Read an endpoint.

    Raises:
        ValueError: it has neither form.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "port" and rest.isascii() and rest.isdigit() and 0 < int(rest) < 65536:
        return RuntimeAddress(port=int(rest))
    if colon and scheme == "unix":
        path = rest.removeprefix("//")
        if path.startswith("/") and posixpath.basename(path):
            return RuntimeAddress(socket=path)
    raise ValueError(f"{text!r} is neither port:NUMBER nor unix:/absolute/path")
