"""The route table: which clusters every gateway shall have, decided without I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from shoal.core.types import RevisionId, RouteKey
from shoal.gateway.api import Upstream
from shoal.gateway.clusters import ClusterBuilder
from shoal.gateway.names import (
    STICKY,
    RouteKind,
    canary_of_stable,
    carries_http,
    grpc_cluster,
    http_cluster,
    is_sticky_cluster,
)
from shoal.gateway.rollouts import in_rollout, is_sticky
from shoal.gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Route:
    """One cluster that gateways shall have; without copies it leads to the activator."""

    name: str
    upstreams: tuple[Upstream, ...]
    builder: ClusterBuilder

    @property
    def version(self) -> str:
        """Changes with the content and only with it."""
        return self.builder.version(self.name, self.upstreams)

    @property
    def revision(self) -> RevisionId | None:
        """The revision that all its requests go to; None where they are divided, or there is no copy."""
        revisions = {upstream.revision for upstream in self.upstreams if upstream.weight}
        if len(revisions) != 1 or in_rollout(self.upstreams):
            return None
        return RevisionId(revisions.pop()) or None

    @property
    def divides(self) -> bool:
        """Whether it has copies, and load reports have to tell which of them got how much."""
        if is_sticky(self.upstreams) and not is_sticky_cluster(self.name):
            return False
        return self.revision is None and any(upstream.revision for upstream in self.upstreams)

    @property
    def first(self) -> str | None:
        """The cluster gateways must have before this one."""
        needs = is_sticky(self.upstreams) and not is_sticky_cluster(self.name)
        return STICKY + self.name if needs else None

    def serialize(self) -> bytes:
        """The Envoy cluster."""
        return self.builder.build(self.name, self.upstreams)


class RouteTable:
    """Copies of every key; gRPC clusters of all endpoints, other clusters only of keys that were asked for.

    A route that loses its last copy is withdrawn: it stays for a while and leads to the activator, because Envoy fails
    requests whose cluster is gone by the time their first copy has failed them.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._grpc = ClusterBuilder(settings, http=False)
        self._http = ClusterBuilder(settings, http=True)
        self._upstreams: dict[RouteKey, tuple[Upstream, ...]] = {}
        self._routes: dict[str, Route] = {}
        self._divided: set[str] = set()
        self._wanted_http: OrderedDict[RouteKey, None] = OrderedDict()
        self._wanted_revisions: OrderedDict[RouteKey, None] = OrderedDict()
        self._max_http = settings.max_http_routes
        self._max_revisions = settings.max_revision_routes
        self._on_demand: dict[str, RouteKey] = {}
        self._withdrawn: OrderedDict[str, bool] = OrderedDict()
        """Routes without copies, longest first; True once `sweep` has seen them."""
        self._max_withdrawn = settings.max_withdrawn_routes

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def __len__(self) -> int:
        return len(self._routes)

    def get(self, name: str) -> Route | None:
        """The route of this name; None when gateways shall not have it."""
        return self._routes.get(name)

    def publish(self, changes: Mapping[RouteKey, tuple[Upstream, ...]]) -> set[str]:
        """Take over changed copies; names of the clusters that changed."""
        for key, upstreams in changes.items():
            if upstreams:
                self._upstreams[key] = upstreams
            else:
                self._upstreams.pop(key, None)
        return self._refresh(changes)

    def want_http(self, key: RouteKey) -> set[str]:
        """Have an HTTP cluster for this key from now on."""
        return self._want(self._wanted_http, self._max_http, key)

    def want_revision(self, revision: str) -> set[str]:
        """Have a gRPC cluster for this revision from now on."""
        return self._want(self._wanted_revisions, self._max_revisions, RouteKey(revision, is_revision=True))

    def adopt(self, names: Iterable[str]) -> set[str]:
        """Withdraw routes a gateway has from another mesh; names of those that were not in the table."""
        changed = set()
        for name in [name for name in names if name not in self._routes]:
            changed |= self._withdraw(name, self._http if carries_http(name) else self._grpc)
        return changed

    def sweep(self) -> set[str]:
        """Remove the routes that were withdrawn before this was last called; their names."""
        old = {name for name, seen in self._withdrawn.items() if seen}
        for name in old:
            self._remove(name)
        self._withdrawn.update(dict.fromkeys(self._withdrawn, True))
        return old

    def used(self, name: str) -> None:
        """This cluster carried requests: if it is one made on demand, it goes later."""
        name = name.removeprefix(STICKY)
        key = self._on_demand.get(name)
        if key is None:
            return
        wanted = self._wanted_http if carries_http(name) else self._wanted_revisions
        if key in wanted:
            wanted.move_to_end(key)

    @property
    def divided(self) -> frozenset[str]:
        """Names of the clusters that divide requests between revisions."""
        return frozenset(self._divided)

    def revision(self, name: str) -> RevisionId | None:
        """The revision that all requests go to which are meant for this route; None if there is not just one."""
        if stable := canary_of_stable(name):
            canary, name = stable
            if canary in self._routes:  # it goes to the activator, see `lua/cluster.lua`
                return None
        route = self._routes.get(name)
        return route.revision if route else None

    def _want(self, wanted: OrderedDict[RouteKey, None], limit: int, key: RouteKey) -> set[str]:
        if key in wanted:
            wanted.move_to_end(key)
            return set()
        wanted[key] = None
        affected = [key]
        while len(wanted) > limit:
            affected.append(wanted.popitem(last=False)[0])
        return self._refresh(affected)

    def _refresh(self, keys: Iterable[RouteKey]) -> set[str]:
        changed = set()
        for key in keys:
            upstreams = self._upstreams.get(key, ())
            direct = upstreams if not key.is_revision or key in self._wanted_revisions else ()
            reachable = tuple(u for u in upstreams if u.http_port or not u.revision) if key in self._wanted_http else ()
            changed |= self._set(grpc_cluster(key), key, direct, self._grpc)
            changed |= self._set(http_cluster(key), key, reachable, self._http)
        return changed

    def _set(self, name: str, key: RouteKey, upstreams: tuple[Upstream, ...], builder: ClusterBuilder) -> set[str]:
        old = self._routes.get(name)
        if (old.upstreams if old else ()) == upstreams:
            return set()
        changed = self._set_copies(STICKY + name, upstreams, builder)
        if not upstreams:
            return changed | self._withdraw(name, builder)
        self._put(Route(name, upstreams, builder))
        if carries_http(name) or name.startswith(RouteKind.GRPC_REVISION.value):
            self._on_demand[name] = key
        return {name, *changed}

    def _set_copies(self, name: str, upstreams: tuple[Upstream, ...], builder: ClusterBuilder) -> set[str]:
        """The second cluster of a route, if it is sticky."""
        if is_sticky(upstreams):
            self._put(Route(name, upstreams, builder))
            return {name}
        return self._withdraw(name, builder) if name in self._routes and name not in self._withdrawn else set()

    def _put(self, route: Route) -> None:
        self._routes[route.name] = route
        if route.divides:
            self._divided.add(route.name)
        else:
            self._divided.discard(route.name)
        self._withdrawn.pop(route.name, None)

    def _withdraw(self, name: str, builder: ClusterBuilder) -> set[str]:
        self._on_demand.pop(name, None)
        self._divided.discard(name)
        self._routes[name] = Route(name, (), builder)
        self._withdrawn[name] = False
        changed = {name}
        while len(self._withdrawn) > self._max_withdrawn:
            changed.add(oldest := next(iter(self._withdrawn)))
            self._remove(oldest)
        return changed

    def _remove(self, name: str) -> None:
        del self._withdrawn[name]
        del self._routes[name]
