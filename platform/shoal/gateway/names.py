"""How routes, headers and metadata are named on both sides of xDS; `lua/names.lua` is the gateway's half of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
"""Route a request is on: what it is for, or a part of the mesh. Only the gateway sets it; it selects the scope."""
FOR_HEADER = "x-shoal-for"
"""What a request is for whose `ROUTE_HEADER` does not say so; only the gateway sets it."""
METHOD_HEADER = "x-shoal-method"
"""What metrics call the method, other than inference; only the gateway sets it."""
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
"""Before the names of clusters and routes that are parts of the mesh."""
ACTIVATOR_GRPC = "shoal:activator-grpc"
ACTIVATOR_HTTP = "shoal:activator-http"
MANAGEMENT = "shoal:management"
HEALTH = "shoal:health"
"""The activator's HTTP server, for questions after its health: the answer that it is down is not tried again."""
XDS = "shoal:xds"
TAKES_SCOPES = "scopes"
"""In the metadata of a gateway that says who it is: its routes are scopes."""
FRONT_GRPC = "shoal:front-grpc"
"""Route of requests on the gRPC port until the script has sent them elsewhere."""
FRONT_REST = "shoal:front-rest"
MESH_HTTP = "shoal:mesh-http"
"""Route of REST requests that are for the mesh itself and no model."""
LARGE = "shoal:large:"
"""Before the name of a pod's cluster: route of large messages to it."""

LUA = "shoal.lua"
"""The filter that runs the script of a request."""
BY_ATTEMPT = "by-attempt"
"""Name of routes in a rollout: their copies hold several revisions, so each attempt is renamed on its own."""
METHOD = "method"
"""Metadata key of the mesh's own routes: what metrics call the method of requests that end there."""
INFER, OTHER, UNCOUNTED = "ModelInfer", "other", "-uncounted"
"""Such methods. Clients may call any, so not each can have its own name."""

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
"""Key of the options of a cluster's protocol."""

HEALTH_SERVICE = "grpc.health.v1.Health"
WATCH_HEALTH = f"/{HEALTH_SERVICE}/Watch"

_UNSAFE = re.compile(rb"[^A-Za-z0-9._~-]")


class RouteKind(Enum):
    """What a route carries; the value is the prefix of its name."""

    GRPC = ""
    GRPC_REVISION = "revision:"
    GRPC_CANARY = "canary:"
    HTTP = "http:"
    HTTP_REVISION = "http-revision:"
    HTTP_CANARY = "http-canary:"


_OF_REVISIONS = (RouteKind.GRPC_REVISION, RouteKind.HTTP_REVISION)
_OF_CANARIES = (RouteKind.GRPC_CANARY, RouteKind.HTTP_CANARY)
_STABLE = ("stable:", "http-stable:")
"""Instead of the prefix, in `FOR_HEADER`: for whoever wants no canary. There are no routes of such names."""
_OF_HTTP = (RouteKind.HTTP, RouteKind.HTTP_REVISION, RouteKind.HTTP_CANARY)


STICKY = "sticky:"
"""Before the name of a sticky route: the cluster with its copies."""


def escape(name: str) -> str:
    """A name with all but URL-safe characters percent-encoded, fit for a header and never like a prefix."""
    return _UNSAFE.sub(lambda m: b"%%%02X" % m[0][0], name.encode()).decode("ascii")


def grpc_route(key: RouteKey) -> str:
    """Name of the route that carries gRPC for a key."""
    return _route(key, RouteKind.GRPC, RouteKind.GRPC_REVISION, RouteKind.GRPC_CANARY)


def http_route(key: RouteKey) -> str:
    """Name of the route that carries standard V2 REST for a key."""
    return _route(key, RouteKind.HTTP, RouteKind.HTTP_REVISION, RouteKind.HTTP_CANARY)


def _route(key: RouteKey, plain: RouteKind, revision: RouteKind, canary: RouteKind) -> str:
    kind = revision if key.is_revision else canary if key.canary else plain
    return kind.value + escape(key.name)


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


def asked_for(headers: Iterable[tuple[str, str | bytes]]) -> RouteKey | None:
    """What the gateway says that a request is for. It goes before anything else: attempts at copies rename requests.

    None if it says nothing, because the request's own headers and message are as the client sent them.
    """
    found = {name: value for name, value in headers if name in (ROUTE_HEADER, FOR_HEADER)}
    route = found.get(FOR_HEADER) or found.get(ROUTE_HEADER, OWN)
    text = route.decode("ascii", "replace") if isinstance(route, bytes) else route
    return None if text.startswith(OWN) else route_key(text)


def shared_route(cluster: str, revision: str) -> str:
    """Name of a route whose copies all hold one revision: where it leads to, and how requests must name the model."""
    return f"{cluster} {revision}"


def revision_of(route: str) -> str:
    """The revision in the name of such a route; empty for others."""
    return route.partition(" ")[2]


def large_cluster(cluster: str) -> str:
    """Name of the cluster that large messages to the servers of a cluster go by."""
    return f"large:{cluster}"


def is_sticky_cluster(cluster: str) -> bool:
    """Whether it has the copies of a sticky route."""
    return cluster.startswith(STICKY)


def carries_http(route: str) -> bool:
    """Whether the route of this name carries standard V2 REST, and not gRPC."""
    return route.startswith(tuple(kind.value for kind in _OF_HTTP))
