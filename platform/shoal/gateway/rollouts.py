"""What routes of a rollout have beyond others: watched and shielded copies, and requests that stick to one.

All of it is configuration of the route's own cluster, which Envoy prefers to that of the listener: requests of other
routes do not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format

from shoal.gateway import names
from shoal.gateway.api import Upstream
from shoal.gateway.filters import rollout_filters
from shoal.gateway.retries import retry_elsewhere
from shoal.gateway.settings import GatewaySettings
from shoal_protos.xds import typed_struct_pb2

_AGAIN = {"name": names.AGAIN_HEADER, "present_match": True}


def in_rollout(upstreams: Sequence[Upstream]) -> bool:
    """Whether a route needs `protocol_options`."""
    return any(u.watched or u.shielded or u.sticky for u in upstreams)


def protocol_options(settings: GatewaySettings, *, http: bool) -> typed_struct_pb2.TypedStruct:
    """The `HttpProtocolOptions` of such a route."""
    options: dict[str, Any] = {
        "common_http_protocol_options": {"idle_timeout": f"{settings.idle_timeout}s"},
        "explicit_http_config": {"http_protocol_options": {}} if http else {"http2_protocol_options": {}},
        # Renaming changes the length of gRPC requests; HTTP/1.1 needs one.
        "http_filters": rollout_filters(forget=() if http else ("content-length",)),
        "retry_policy": retry_elsewhere(settings, _AGAIN),
        "hash_policy": [{"header": {"header_name": names.STICKY_HEADER}}],
    }
    struct = typed_struct_pb2.TypedStruct(
        type_url="type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    )
    json_format.ParseDict(options, struct.value)
    return struct
