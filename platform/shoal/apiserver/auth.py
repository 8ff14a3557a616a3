"""Who may talk to the embedded API: whoever holds the bearer token of the state directory."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path

from shoal.apiserver.errors import unauthorized
from shoal.durable import write_whole

# Probes and kubectl's version check carry no secret and show none.
PUBLIC_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})


def ensure_token(path: Path) -> str:
    """Return the token in `path`, made on first use; the file is readable by its owner only."""
    if path.exists():
        token = path.read_text().strip()
        if token:
            return token
    token = secrets.token_urlsafe(32)
    write_whole(path, token.encode(), 0o600)
    return token


def authenticate(token: str, path: str, authorization: str) -> None:
    """Let a request pass whose `Authorization` header carries `token`.

    Raises:
        ApiError: 401.
    """
    if path in PUBLIC_PATHS:
        return
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise unauthorized()
