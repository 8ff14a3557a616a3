"""Why a server cannot be reached, in words that say what to mend: HTTP clients wrap the cause several times."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

MAX_WRAPPINGS = 10


def cause(error: BaseException) -> str:
    """The cause of a failed connection, and the fix where there is one; never a value of the configuration."""
    for inner in _chain(error):
        match inner:
            case socket.gaierror():
                return "its host name is not known; check the name in the address"
            case ConnectionRefusedError():
                return "nothing listens there; check host and port, and that the server runs"
            case ssl.SSLCertVerificationError():
                return (
                    f"its certificate is not trusted ({inner.verify_message}); "
                    "put the authority's certificate into field 'certificate'"
                )
            case ssl.SSLError() if inner.reason == "WRONG_VERSION_NUMBER":
                return "it does not speak TLS; use http:// in the address"
            case ssl.SSLError() if "CERTIFICATE_REQUIRED" in str(inner.reason):
                return "it asks for a client certificate; set fields 'client_certificate' and 'client_key'"
            case ssl.SSLError():
                return f"TLS fails ({inner.reason or inner})"
            case TimeoutError():
                return "it sent nothing for too long; check host, port and firewalls, and what the server is doing"
    return f"{type(error).__name__} {error}".rstrip() if str(error) else type(error).__name__


def untrusted(error: BaseException) -> bool:
    """Whether the server's certificate or protocol is wrong, which trying again does not mend."""
    return any(
        isinstance(inner, ssl.SSLCertVerificationError)
        or (isinstance(inner, ssl.SSLError) and inner.reason == "WRONG_VERSION_NUMBER")
        for inner in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    inner: BaseException | None = error
    for _ in range(MAX_WRAPPINGS):
        if inner is None:
            return
        yield inner
        reason = getattr(inner, "reason", None)
        inner = reason if isinstance(reason, BaseException) else inner.__cause__ or inner.__context__
