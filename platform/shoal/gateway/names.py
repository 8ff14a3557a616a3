"""How clusters, headers and metadata are named on both sides of xDS; `lua/names.lua` is the gateway's half of it."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from urllib.parse import unquote

from shoal.core.types import RouteKey

METADATA = "shoal"
"""Namespace of endpoint metadata."""
REVISION = "revision"
"""Metadata key: the revision a copy holds, as the gateway writes it into requests."""
WATCHED = "watched"
"""Metadata key: attempts at this copy are reported."""
SHIELDED = "shielded"
"""Metadata key: server errors of this copy are tried again elsewhere."""
ATTEMPTS = "shoal.attempts"
"""Namespace of a request's own metadata: notes on its attempts, by number."""

ROUTE_HEADER = "x-shoal-route"
"""Cluster a request is meant for; set by the gateway, never sent on."""
FORM_HEADER = "x-shoal-form"
"""On REST requests that the transcoder shall convert: `PROTOBUF_FORM`."""
PROTOBUF_FORM = "protobuf"
MODEL_HEADER = "mm-model-id"
"""Revision of the copy that was picked; a client's own is restored on the way to the activator."""
ATTEMPT_HEADER = "x-envoy-attempt-count"
"""Above 1 on requests that failed on a copy before they came to the activator."""
ENCODING_HEADER = "x-shoal-encoding"
"""On REST requests, between filters only: what `content-encoding` was before the body was unpacked."""
AGAIN_HEADER = "x-shoal-again"
"""On REST answers of copies that do not count: the request is tried again."""
SERVED_HEADER = "x-shoal-served"
"""On all answers of the activator, first thing: they are final, and clients can tell cold requests from hot ones."""

FAULT_HEADER = "x-shoal-fault"
"""On answers of model servers that can tell: `request`, if no model could have taken the request."""
OF_THE_REQUEST = "request"

WATCHED_HEADER = "x-shoal-watched"
"""Between filters only: this attempt is at a watched copy."""
SHIELDED_HEADER = "x-shoal-shielded"
"""Between filters only: this answer comes from a shielded copy."""
REVISION_HEADER = "mm-revision"
"""Names a revision, whatever name the path or the message has."""
CANARY_HEADER = "x-shoal-canary"
"""`always`: to the revision a rollout leads to; `never`: not to it. It stays on requests to the activator."""
STICKY_HEADER = "x-shoal-sticky"
"""Requests with the same value go to the same copy, on routes that are sticky."""

OWN = "shoal:"
"""Before the names of clusters that are parts of the mesh."""
ACTIVATOR_GRPC = "shoal:activator-grpc"
ACTIVATOR_HTTP = "shoal:activator-http"
MANAGEMENT = "shoal:management"
HEALTH = "shoal:health"
"""The activator's HTTP server, for questions after its health: the answer that it is down is not tried again."""
XDS = "shoal:xds"

HEALTH_SERVICE = "grpc.health.v1.Health"
WATCH_HEALTH = f"/{HEALTH_SERVICE}/Watch"

_UNSAFE = re.compile(rb"[^A-Za-z0-9._~-]")


class RouteKind(Enum):
    """What a cluster carries; the value is the prefix of its name."""

    GRPC = ""
    GRPC_REVISION = "revision:"
    GRPC_CANARY = "canary:"
    HTTP = "http:"
    HTTP_REVISION = "http-revision:"
    HTTP_CANARY = "http-canary:"


_OF_REVISIONS = (RouteKind.GRPC_REVISION, RouteKind.HTTP_REVISION)
_OF_CANARIES = (RouteKind.GRPC_CANARY, RouteKind.HTTP_CANARY)
_STABLE = ("stable:", "http-stable:")
"""Instead of the prefix, in `ROUTE_HEADER`: for whoever wants no canary. There are no clusters of such names."""
_OF_HTTP = (RouteKind.HTTP, RouteKind.HTTP_REVISION, RouteKind.HTTP_CANARY)


STICKY = "sticky:"
"""Before the name of a sticky route's cluster: the cluster it takes its copies from."""


def escape(name: str) -> str:
    """A name with all but URL-safe characters percent-encoded, fit for a header and never like a prefix."""
    return _UNSAFE.sub(lambda m: b"%%%02X" % m[0][0], name.encode()).decode("ascii")


def grpc_cluster(key: RouteKey) -> str:
    """Name of the cluster that carries gRPC for a key."""
    return _cluster(key, RouteKind.GRPC, RouteKind.GRPC_REVISION, RouteKind.GRPC_CANARY)


def http_cluster(key: RouteKey) -> str:
    """Name of the cluster that carries standard V2 REST for a key."""
    return _cluster(key, RouteKind.HTTP, RouteKind.HTTP_REVISION, RouteKind.HTTP_CANARY)


def _cluster(key: RouteKey, plain: RouteKind, revision: RouteKind, canary: RouteKind) -> str:
    kind = revision if key.is_revision else canary if key.canary else plain
    return kind.value + escape(key.name)


def canary_of_stable(route: str) -> tuple[str, str] | None:
    """The clusters of the canary and of all copies, for a route that wants no canary; None for other routes."""
    for stable, canary, plain in zip(_STABLE, _OF_CANARIES, (RouteKind.GRPC, RouteKind.HTTP), strict=True):
        if route.startswith(stable):
            name = route.removeprefix(stable)
            return canary.value + name, plain.value + name
    return None


@lru_cache(maxsize=4096)
def route_key(route: str) -> RouteKey:
    """What a request is for that is meant for this route (`ROUTE_HEADER`).

    Raises:
        ValueError: it is no route of the route table.
    """
    for stable in _STABLE:
        route = route.removeprefix(stable)
    prefix, colon, name = route.rpartition(":")
    kind = RouteKind(prefix + colon)
    return RouteKey(unquote(name), is_revision=kind in _OF_REVISIONS, canary=kind in _OF_CANARIES)


def is_sticky_cluster(cluster: str) -> bool:
    """Whether it has the copies of a sticky route."""
    return cluster.startswith(STICKY)


def carries_http(cluster: str) -> bool:
    """Whether the cluster of this name carries standard V2 REST, and not gRPC."""
    return cluster.removeprefix(STICKY).startswith(tuple(kind.value for kind in _OF_HTTP))
