"""Whether a server can listen at an address now."""

from __future__ import annotations

import socket


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
