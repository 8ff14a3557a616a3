"""How often and how long the gateway tries to reach someone."""

from __future__ import annotations

from typing import Any

from shoal.gateway.settings import GatewaySettings


def retry_policy(settings: GatewaySettings) -> dict[str, Any]:
    """Try again what certainly or probably was not served: no connection, refused, or cut off without an answer.

    The waits grow, so that requests outlast a restart of the mesh.
    """
    return {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": settings.retries,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "4s"},
    }
