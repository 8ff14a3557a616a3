"""Addresses of model servers in the form ServingRuntimes give them: `port:N` or `unix:PATH`."""

from __future__ import annotations

import re


def local_target(endpoint: str, host: str = "localhost") -> str:
    """The gRPC target of `port:N` (at `host`), `unix:PATH` or `unix:///PATH`.

    Raises:
        ValueError: it has another form.
    """
    if match := re.fullmatch(r"port:(\d{1,5})", endpoint):
        port = int(match[1])
        if 1 <= port <= 65535:
            return f"{host}:{port}"
    if re.fullmatch(r"unix:[^\s]+", endpoint):
        return endpoint
    raise ValueError(f"{endpoint!r} is not an endpoint; write `port:8001` or `unix:/path/to.socket`")
