"""The route table: which clusters and scopes every gateway shall have, decided without I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from hashlib import blake2b
from typing import Final

from shoal.core.types import RevisionId, RouteKey
from shoal.gateway.clusters import CLUSTER_TYPE, ClusterBuilder
from shoal.gateway.limits import LAYER, RUNTIME_TYPE, limits
from shoal.gateway.names import LARGE, STICKY, RouteKind, carries_http, grpc_route, http_route, large_cluster
from shoal.gateway.pods import PodClusters, Server, servers
from shoal.gateway.protocols import Upstream
from shoal.gateway.rollouts import is_sticky, shared_revision
from shoal.gateway.routes import fixed_routes
from shoal.gateway.scopes import SCOPE_TYPE, ScopeBuilder, fixed_scope, scope_name
from shoal.gateway.settings import GatewaySettings


class ResourceKind(Enum):
    """What gateways are sent; the value is how xDS calls it."""

    CLUSTER = CLUSTER_TYPE
    SCOPE = SCOPE_TYPE
    RUNTIME = RUNTIME_TYPE


Ref = tuple[ResourceKind, str]
"""A resource by kind and name."""
Refs = dict[Ref, None]
"""What changed, in the order in which gateways must have it."""


@dataclass(frozen=True)
class XdsResource:
    """One that gateways shall have."""

    content: bytes
    needs: tuple[str, ...] = ()
    """Clusters that a scope leads to; gateways must have them before it."""

    @cached_property
    def version(self) -> str:
        """The same for the same content, also after a restart of the mesh, so that gateways keep what they have."""
        return blake2b(self.content, digest_size=12).hexdigest()


class GatewayTable:
    """Copies of every key; gRPC routes of all endpoints, other routes only of keys that were asked for.

    A route is a scope, which leads to clusters of pods or, in a rollout, to its own. Clusters that no scope leads to
    are withdrawn: they stay for a while as they are, because requests under way are tried again by them.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._protocols: Final = {http: _Protocol(settings, http=http) for http in (False, True)}
        self._resources: dict[ResourceKind, dict[str, XdsResource]] = {kind: {} for kind in ResourceKind}
        self._users: dict[str, set[str]] = {}
        """Scopes that lead to a cluster, of the clusters that have any."""
        self._pods: dict[str, tuple[_Protocol, tuple[Server, ...]]] = {}
        """The clusters of pods."""
        self._upstreams: dict[RouteKey, tuple[Upstream, ...]] = {}
        self._routed: dict[str, tuple[Upstream, ...]] = {}
        """The copies that a route leads to now."""
        self._divided: dict[str, str] = {}
        """The clusters with the copies of routes in a rollout, by route."""
        self._wanted_http: OrderedDict[RouteKey, None] = OrderedDict()
        self._wanted_revisions: OrderedDict[RouteKey, None] = OrderedDict()
        self._max_http = settings.max_http_routes
        self._max_revisions = settings.max_revision_routes
        self._on_demand: dict[str, RouteKey] = {}
        self._withdrawn: OrderedDict[str, bool] = OrderedDict()
        """Clusters without scopes, longest first; True once `sweep` has seen them."""
        self._max_withdrawn = settings.max_withdrawn_clusters
        self._bounds: Mapping[str, int] = {}
        self._limit()
        for route, routes in fixed_routes(settings).items():
            self._put(ResourceKind.SCOPE, scope_name(route), XdsResource(fixed_scope(route, routes)))

    def names(self, kind: ResourceKind) -> Iterator[str]:
        """The names of all resources of a kind."""
        return iter(self._resources[kind])

    @property
    def divided(self) -> frozenset[str]:
        """Names of the clusters of which load reports have to tell which revision got how much."""
        return frozenset(self._divided.values())

    def revision(self, route: str) -> RevisionId | None:
        """The revision that all requests on this route go to; None if it leads nowhere or divides them."""
        return RevisionId(shared_revision(self._routed.get(route, ()))) or None

    def get(self, kind: ResourceKind, name: str) -> XdsResource | None:
        """The resource of this name; None when gateways shall not have it."""
        return self._resources[kind].get(name)

    def users(self, cluster: str) -> frozenset[str]:
        """The scopes that lead to a cluster."""
        return frozenset(self._users.get(cluster, ()))

    def publish(self, changes: Mapping[RouteKey, tuple[Upstream, ...]]) -> Refs:
        """Take over changed copies; what changed by that."""
        for key, upstreams in changes.items():
            if upstreams:
                self._upstreams[key] = upstreams
            else:
                self._upstreams.pop(key, None)
        return self._refresh(changes)

    def bound(self, bounds: Mapping[str, int]) -> Refs:
        """Have at most so many requests in flight from one gateway to these pods, any number to others."""
        if bounds == self._bounds:
            return {}
        self._bounds = bounds
        return self._limit()

    def want_http(self, key: RouteKey) -> Refs:
        """Have an HTTP route for this key from now on."""
        return self._want(self._wanted_http, self._max_http, key)

    def want_revision(self, revision: str) -> Refs:
        """Have a gRPC route for this revision from now on."""
        return self._want(self._wanted_revisions, self._max_revisions, RouteKey(revision, is_revision=True))

    def adopt(self, clusters: Iterable[str]) -> Refs:
        """Withdraw clusters a gateway has from another mesh; those that it has to remove at once."""
        changed: Refs = {}
        for name in clusters:
            if self.get(ResourceKind.CLUSTER, name) is None and name not in self._withdrawn:
                changed |= self._withdraw(name)
        return changed

    def is_withdrawn(self, cluster: str) -> bool:
        """Whether gateways that have this cluster shall keep it, though no scope leads to it."""
        return cluster in self._withdrawn

    def sweep(self) -> Refs:
        """Remove the clusters that were withdrawn before this was last called."""
        changed: Refs = {}
        for name in [name for name, seen in self._withdrawn.items() if seen]:
            changed |= self._remove(name)
        self._withdrawn.update(dict.fromkeys(self._withdrawn, True))
        return changed

    def used(self, route: str) -> None:
        """This route carried requests: if it is one made on demand, it goes later."""
        key = self._on_demand.get(route.removeprefix(STICKY))
        if key is None:
            return
        wanted = self._wanted_http if carries_http(route.removeprefix(STICKY)) else self._wanted_revisions
        if key in wanted:
            wanted.move_to_end(key)

    def _want(self, wanted: OrderedDict[RouteKey, None], limit: int, key: RouteKey) -> Refs:
        if key in wanted:
            wanted.move_to_end(key)
            return {}
        wanted[key] = None
        affected = [key]
        while len(wanted) > limit:
            affected.append(wanted.popitem(last=False)[0])
        return self._refresh(affected)

    def _refresh(self, keys: Iterable[RouteKey]) -> Refs:
        changed: Refs = {}
        for key in keys:
            upstreams = self._upstreams.get(key, ())
            direct = upstreams if not key.is_revision or key in self._wanted_revisions else ()
            reachable = tuple(u for u in upstreams if u.http_port or not u.revision) if key in self._wanted_http else ()
            changed |= self._set(grpc_route(key), key, direct)
            changed |= self._set(http_route(key), key, reachable)
        return changed

    def _set(self, route: str, key: RouteKey, upstreams: tuple[Upstream, ...]) -> Refs:
        if self._routed.get(route, ()) == upstreams:
            return {}
        scope = scope_name(route)
        before = self.get(ResourceKind.SCOPE, scope)
        if not upstreams:
            del self._routed[route]
            self._divided.pop(route, None)
            self._on_demand.pop(route, None)
            del self._resources[ResourceKind.SCOPE][scope]
            return {(ResourceKind.SCOPE, scope): None} | self._leave(scope, before.needs if before else ())
        self._routed[route] = upstreams
        if carries_http(route) or route.startswith(RouteKind.GRPC_REVISION.value):
            self._on_demand[route] = key
        changed: Refs = {}
        needed, content = self._built(route, upstreams, changed)
        for name in needed:
            self._withdrawn.pop(name, None)
            self._users.setdefault(name, set()).add(scope)
        changed |= self._put(ResourceKind.SCOPE, scope, XdsResource(content, needed))
        return changed | self._leave(scope, [name for name in (before.needs if before else ()) if name not in needed])

    def _built(self, route: str, upstreams: tuple[Upstream, ...], changed: Refs) -> tuple[tuple[str, ...], bytes]:
        """The clusters of a route, which are there then, and its scope; adds to what changed."""
        protocol = self._protocols[carries_http(route)]
        revision = shared_revision(upstreams)
        if not revision:
            own = (STICKY + route, route) if is_sticky(upstreams) else (route,)
            if any(upstream.revision for upstream in upstreams):
                self._divided[route] = own[0]
            for name in own:
                changed |= self._put(ResourceKind.CLUSTER, name, XdsResource(protocol.clusters.build(name, upstreams)))
            return own, protocol.scopes.by_attempt(route, route)
        self._divided.pop(route, None)
        chosen = protocol.pods.choose(servers((u for u in upstreams if u.weight), http=protocol.http))
        for name, copies in chosen.items():
            if name not in self._pods:
                changed |= self._add_pods(protocol, name, copies)
        return tuple(chosen), protocol.scopes.shared(route, revision, tuple(chosen))

    def _limit(self) -> Refs:
        clusters: dict[str, tuple[Server, ...]] = {}
        if self._bounds:
            for name, (protocol, copies) in self._pods.items():
                clusters[name] = copies
                if not protocol.http:
                    clusters[large_cluster(name)] = copies
        return self._put(ResourceKind.RUNTIME, LAYER, XdsResource(limits(self._bounds, clusters)))

    def _add_pods(self, protocol: _Protocol, name: str, copies: tuple[Server, ...]) -> Refs:
        """A cluster of pods, and beside it that for large messages, which on HTTP/1.1 hold up no others."""
        self._pods[name] = (protocol, copies)
        protocol.pods.appeared(name, copies)
        changed = self._put(ResourceKind.CLUSTER, name, XdsResource(protocol.pods.built(name, copies)))
        if not protocol.http:
            large, scope = large_cluster(name), scope_name(LARGE + name)
            changed |= self._put(ResourceKind.CLUSTER, large, XdsResource(protocol.pods.built(large, copies)))
            changed |= self._put(ResourceKind.SCOPE, scope, XdsResource(protocol.scopes.large(name), (large,)))
            self._users[large] = {scope}
        return changed | self._limit() if self._bounds else changed

    def _put(self, kind: ResourceKind, name: str, resource: XdsResource) -> Refs:
        if kind is ResourceKind.CLUSTER:
            self._withdrawn.pop(name, None)
        old = self._resources[kind].get(name)
        self._resources[kind][name] = resource
        return {} if old == resource else {(kind, name): None}

    def _leave(self, scope: str, clusters: Iterable[str]) -> Refs:
        changed: Refs = {}
        for name in clusters:
            self._users[name].discard(scope)
            if not self._users[name]:
                del self._users[name]
                changed |= self._withdraw(name)
        return changed

    def _withdraw(self, cluster: str) -> Refs:
        self._withdrawn[cluster] = False
        changed: Refs = {}
        while len(self._withdrawn) > self._max_withdrawn:
            changed |= self._remove(next(iter(self._withdrawn)))
        return changed

    def _remove(self, cluster: str) -> Refs:
        del self._withdrawn[cluster]
        self._resources[ResourceKind.CLUSTER].pop(cluster, None)
        changed: Refs = {(ResourceKind.CLUSTER, cluster): None}
        protocol, copies = self._pods.pop(cluster, (None, ()))
        if protocol is not None:
            protocol.pods.vanished(cluster, copies)
            if not protocol.http:
                large, scope = large_cluster(cluster), scope_name(LARGE + cluster)
                del self._resources[ResourceKind.CLUSTER][large], self._resources[ResourceKind.SCOPE][scope]
                del self._users[large]
                changed |= {(ResourceKind.CLUSTER, large): None, (ResourceKind.SCOPE, scope): None}
        return changed


class _Protocol:
    """What builds routes of one protocol."""

    def __init__(self, settings: GatewaySettings, *, http: bool) -> None:
        self.http = http
        self.clusters = ClusterBuilder(settings, http=http)
        self.pods = PodClusters(settings, http=http)
        self.scopes = ScopeBuilder(settings, http=http)
