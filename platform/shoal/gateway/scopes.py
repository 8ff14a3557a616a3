"""Builds routing scopes: what a model's route is to Envoy.

A scope holds the routes of the requests with one value of `ROUTE_HEADER`, and is small where a cluster is not:
thousands of models share the clusters of a few pods. By which name a model's copies know it, the name of its routes
says, which the script of the request reads: metadata would take a fifth more memory.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from google.protobuf import json_format

from shoal.gateway import names
from shoal.gateway.routes import TRANSCODER_OFF, limits
from shoal.gateway.settings import GatewaySettings
from shoal_protos.xds import lua_pb2, percent_pb2, route_pb2, transcoder_pb2

SCOPE_TYPE: Final = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
_MILLION: Final = 1_000_000
IN_JSON: Final = (lua_pb2.LuaPerRoute, transcoder_pb2.GrpcJsonTranscoder)
"""Messages that routes given as JSON name by their types, which must be loaded for that."""


def scope_name(route: str) -> str:
    """Name of the scope of a route.

    Envoy copies a table of all scope names for every response; up to 22 bytes it does so without allocating memory.
    """
    return urlsafe_b64encode(blake2b(route.encode(), digest_size=16).digest())[:22].decode("ascii")


def salted(scope: bytes, salt: int) -> bytes:
    """The same scope under another name of its routes, so that Envoy takes it for a new one."""
    other = route_pb2.ScopedRouteConfiguration()
    other.route_configuration.name = str(salt)
    return scope + other.SerializeToString()  # messages may be concatenated, which merges them


def fixed_scope(route: str, routes: Sequence[dict[str, Any]]) -> bytes:
    """A scope whose routes are given as JSON."""
    scope, host = _scope(route)
    for one in routes:
        json_format.ParseDict(one, host.routes.add())
    return _serialized(scope)


class ScopeBuilder:
    """Scopes of models, for one protocol."""

    def __init__(self, settings: GatewaySettings, *, http: bool) -> None:
        self._http = http
        common: dict[str, Any] = {"match": {"prefix": "/"}, "route": limits(settings)}
        if http:
            common |= TRANSCODER_OFF
        self._common = json_format.ParseDict(common, route_pb2.Route())

    def shared(self, route: str, revision: str, clusters: Sequence[str]) -> bytes:
        """The copies of one revision; each cluster gets as many requests as another."""
        scope, host = _scope(route)
        for place, cluster in enumerate(clusters):
            one = self._add(host, cluster)
            if place + 1 < len(clusters):  # Envoy draws one number a request, which it compares with each share
                share = one.match.runtime_fraction.default_value
                share.denominator = percent_pb2.FractionalPercent.MILLION
                share.numerator = round(_MILLION * (place + 1) / len(clusters))
            one.name = names.shared_route(cluster, revision)
        return _serialized(scope)

    def by_attempt(self, route: str, cluster: str) -> bytes:
        """A cluster of the route's own, which divides requests and renames them."""
        scope, host = _scope(route)
        self._add(host, cluster).name = names.BY_ATTEMPT
        return _serialized(scope)

    def large(self, cluster: str) -> bytes:
        """Large messages to the servers of a cluster, by connections of their own."""
        scope, host = _scope(names.LARGE + cluster)
        self._add(host, names.large_cluster(cluster))
        return _serialized(scope)

    def _add(self, host: route_pb2.VirtualHost, cluster: str) -> route_pb2.Route:
        one = host.routes.add()
        one.CopyFrom(self._common)
        one.route.cluster = cluster
        return one


def _scope(route: str) -> tuple[route_pb2.ScopedRouteConfiguration, route_pb2.VirtualHost]:
    scope = route_pb2.ScopedRouteConfiguration(name=scope_name(route))
    scope.key.fragments.add(string_key=route)
    configuration = scope.route_configuration
    configuration.name = "0"
    # A refusal for a cluster that is not there would leave Envoy with scopes it takes for known and does not have.
    configuration.validate_clusters.value = False
    host = configuration.virtual_hosts.add(name="0", domains=["*"], include_request_attempt_count=True)
    return scope, host


def _serialized(scope: route_pb2.ScopedRouteConfiguration) -> bytes:
    serialized: bytes = scope.SerializeToString(deterministic=True)
    return serialized
