"""When, how often and how long the gateway tries again."""

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


def retry_elsewhere(settings: GatewaySettings, *also: dict[str, Any]) -> dict[str, Any]:
    """A copy that died, is unreachable or lost its model: the activator takes over (priority 1 of the cluster).

    `also`: matchers of other response headers that mean so.

    The activator's own answer is final: it sends headers before the status it aborts a call with, so that no rule here
    sees it, and `lua/upstream_rest.lua` tells its REST answers apart.
    """
    policy = retry_policy(settings)
    policy["retry_on"] += ",retriable-headers"
    policy["retry_priority"] = {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3"
            ".PreviousPrioritiesConfig",
            "update_frequency": 1,
        },
    }
    policy["retriable_headers"] = [
        # NOT_FOUND: the copy lost the model. UNAVAILABLE: its server is going.
        *({"name": "grpc-status", "string_match": {"exact": status}} for status in ("5", "14")),
        *also,
    ]
    return policy
