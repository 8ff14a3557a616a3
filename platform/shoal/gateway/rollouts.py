"""What routes of a rollout have beyond others: weights, watched and shielded copies, and requests that stick to one.

All of it is configuration of the route's own cluster: requests of other routes do not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format

from shoal.gateway import names
from shoal.gateway.filters import rollout_filters
from shoal.gateway.protocols import Upstream
from shoal.gateway.retries import retry_elsewhere
from shoal.gateway.settings import GatewaySettings
from shoal_protos.xds import composite_pb2, typed_struct_pb2

_AGAIN = {"name": names.AGAIN_HEADER, "present_match": True}


def shared_revision(upstreams: Sequence[Upstream]) -> str:
    """The revision that all copies of a route hold, also those of weight 0, if nothing else is to be known of them.

    It is empty if there is none.

    Other routes are in a rollout and have clusters of their own.
    """
    if any(u.watched or u.shielded or u.sticky for u in upstreams):
        return ""
    revisions = {u.revision for u in upstreams}
    return revisions.pop() if len(revisions) == 1 else ""


def is_sticky(upstreams: Sequence[Upstream]) -> bool:
    """Whether requests stick to copies: then a route has two clusters.

    Envoy's hashing balancers look at priorities only once a request, so that it would be tried again where it failed.
    So the copies have a cluster that hashes (`STICKY`), and the route's own is a list: that one, then the activator.
    """
    return any(u.sticky for u in upstreams)


def retry_list(settings: GatewaySettings, name: str, *, http: bool) -> composite_pb2.ClusterConfig:
    """The type of a sticky route's own cluster: which one an attempt goes to, by number."""
    activator = names.ACTIVATOR_HTTP if http else names.ACTIVATOR_GRPC
    config = composite_pb2.ClusterConfig()
    for cluster in (names.STICKY + name, *(activator for _ in range(settings.retries))):
        config.clusters.add(name=cluster)
    return config


def protocol_options(settings: GatewaySettings, *, http: bool, sticky: bool) -> typed_struct_pb2.TypedStruct:
    """The `HttpProtocolOptions` of such a route."""
    retries = retry_elsewhere(settings, _AGAIN)
    if sticky:
        del retries["retry_priority"]  # `retry_list` says where to
    options: dict[str, Any] = {
        "common_http_protocol_options": {"idle_timeout": f"{settings.idle_timeout}s"},
        "explicit_http_config": {"http_protocol_options": {}} if http else {"http2_protocol_options": {}},
        # Renaming changes the length of gRPC requests; HTTP/1.1 needs one.
        "http_filters": rollout_filters(forget=() if http else ("content-length",)),
        "retry_policy": retries,
        "hash_policy": [{"header": {"header_name": names.STICKY_HEADER}}] if sticky else [],
    }
    struct = typed_struct_pb2.TypedStruct(
        type_url="type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    )
    json_format.ParseDict(options, struct.value)
    return struct
