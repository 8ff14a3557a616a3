"""The route table: what a change of copies makes of clusters and scopes."""

from __future__ import annotations

import itertools

import pytest

from shoal.core.types import RouteKey
from shoal.gateway.pods import MAX_SETS
from shoal.gateway.protocols import Upstream
from shoal.gateway.scopes import scope_name
from shoal.gateway.settings import GatewaySettings
from shoal.gateway.table import GatewayTable, Refs, ResourceKind
from shoal_protos.xds import cluster_pb2, route_pb2, runtime_pb2

CLUSTER, SCOPE = ResourceKind.CLUSTER, ResourceKind.SCOPE


def copy(revision: str, port: int = 8001, http_port: int | None = None, weight: int = 1, **marks: bool) -> Upstream:
    return Upstream(revision, "127.64.0.10", port, http_port, weight, **marks)


def pod(port: int) -> str:
    return f"pod:127.64.0.10:{port}"


@pytest.fixture
def table() -> GatewayTable:
    return GatewayTable(GatewaySettings(max_http_routes=2, max_revision_routes=2))


def scope(*routes: str) -> Refs:
    return {(SCOPE, scope_name(route)): None for route in routes}


def cluster(*names: str) -> Refs:
    return {(CLUSTER, name): None for name in names}


def lane(port: int) -> Refs:
    return cluster(f"large:{pod(port)}") | scope(f"shoal:large:{pod(port)}")


def routes(table: GatewayTable, route: str) -> list[route_pb2.Route]:
    found = table.get(SCOPE, scope_name(route))
    assert found is not None
    parsed = route_pb2.ScopedRouteConfiguration.FromString(found.content)
    assert parsed.key.fragments[0].string_key == route
    return list(parsed.route_configuration.virtual_hosts[0].routes)


def built(table: GatewayTable, name: str) -> cluster_pb2.Cluster:
    found = table.get(CLUSTER, name)
    assert found is not None
    return cluster_pb2.Cluster.FromString(found.content)


def leads_to(table: GatewayTable, route: str) -> list[str]:
    return [one.route.cluster for one in routes(table, route)]


def test_models_of_one_pod_share_its_cluster(table):
    assert table.publish({RouteKey("a"): (copy("a__r"),)}) == scope("a") | cluster(pod(8001)) | lane(8001)
    assert table.publish({RouteKey("b"): (copy("b__r"),)}) == scope("b")
    assert leads_to(table, "a") == leads_to(table, "b") == [pod(8001)]
    assert routes(table, "a")[0].name == f"{pod(8001)} a__r"
    assert leads_to(table, f"shoal:large:{pod(8001)}") == [f"large:{pod(8001)}"]


def test_a_cluster_has_the_activator_behind_its_pods(table):
    table.publish({RouteKey("a"): (copy("r", 1), copy("r", 2))})
    [name] = leads_to(table, "a")
    found = built(table, name)
    shape = [(e.priority, len(e.lb_endpoints)) for e in found.load_assignment.endpoints]
    assert shape == [(0, 2), (1, 1)]
    assert found.lb_policy == cluster_pb2.Cluster.LEAST_REQUEST


def test_names_of_scopes_are_short():
    assert len(scope_name("a" * 300)) == 22
    assert scope_name("a") != scope_name("b")


def test_copies_of_many_models_share_few_sets(table):
    """Beyond them, requests are divided evenly over the pods' own clusters, at no connections."""
    pairs = list(itertools.combinations(range(1, 9), 2))
    for number, (one, other) in enumerate(pairs):
        table.publish({RouteKey(f"m{number}"): (copy(f"m{number}", one), copy(f"m{number}", other))})
    sets: dict[int, set[str]] = {}
    for number, pair in enumerate(pairs):
        found = leads_to(table, f"m{number}")
        if len(found) == 1:
            for port in pair:
                sets.setdefault(port, set()).update(found)
            continue
        assert found == [pod(port) for port in pair]
        first, last = routes(table, f"m{number}")
        assert first.match.runtime_fraction.default_value.numerator == 500_000
        assert not last.match.HasField("runtime_fraction")
    assert {len(names) for names in sets.values()} == {MAX_SETS}
    table.publish({RouteKey("same"): (copy("same", pairs[0][1]), copy("same", pairs[0][0]))})
    assert leads_to(table, "same") == leads_to(table, "m0")


def test_shares_of_three_copies_are_even(table):
    for number, other in enumerate(range(10, 10 + MAX_SETS)):
        table.publish({RouteKey(f"m{number}"): (copy("r", 1), copy("r", other))})
    table.publish({RouteKey("a"): (copy("r", 1), copy("r", 2), copy("r", 3))})
    shares = [one.match.runtime_fraction.default_value.numerator for one in routes(table, "a")]
    assert shares == [333_333, 666_667, 0], "all are compared with the same number"


def test_a_set_that_is_gone_makes_place_for_another(table):
    for number, other in enumerate(range(10, 10 + MAX_SETS)):
        table.publish({RouteKey(f"m{number}"): (copy("r", 1), copy("r", other))})
    table.publish({RouteKey("m0"): ()})
    pair = (copy("r", 1), copy("r", 2))
    table.publish({RouteKey("a"): pair})
    assert len(leads_to(table, "a")) == 2, "requests under way may still be tried again by it"
    table.sweep()
    table.sweep()
    table.publish({RouteKey("b"): pair})
    assert len(leads_to(table, "b")) == 1


def test_a_withdrawn_route_is_gone_and_its_cluster_stays_until_it_was_swept_twice(table):
    table.publish({RouteKey("a"): (copy("r"),), RouteKey("b"): (copy("r"),)})
    before = table.get(CLUSTER, pod(8001))
    assert table.publish({RouteKey("a"): ()}) == scope("a")
    assert table.publish({RouteKey("a"): ()}) == {}
    assert table.sweep() == table.sweep() == {}, "another model leads to it"
    assert table.publish({RouteKey("b"): ()}) == scope("b")
    assert table.sweep() == {}
    assert table.get(CLUSTER, pod(8001)) == before
    assert table.sweep() == cluster(pod(8001)) | lane(8001)
    assert table.get(CLUSTER, pod(8001)) is None
    assert list(table.names(CLUSTER)) == []


def test_a_cluster_that_is_used_again_is_not_removed(table):
    table.publish({RouteKey("a"): (copy("r"),)})
    table.publish({RouteKey("a"): ()})
    table.sweep()
    assert table.publish({RouteKey("b"): (copy("r"),)}) == scope("b")
    assert table.sweep() == {}
    table.publish({RouteKey("b"): ()})
    assert table.sweep() == {}  # counted anew
    assert table.sweep() == cluster(pod(8001)) | lane(8001)


def test_few_withdrawn_clusters_are_kept_and_the_oldest_go_first():
    table = GatewayTable(GatewaySettings(max_withdrawn_clusters=2))
    table.publish({RouteKey(name): (copy("r", port),) for port, name in enumerate("abc", start=1)})
    for name in "ab":
        table.publish({RouteKey(name): ()})
    assert table.publish({RouteKey("c"): ()}) == scope("c") | cluster(pod(1)) | lane(1)


def test_what_gateways_have_from_another_mesh_is_withdrawn_unless_it_is_needed(table):
    assert table.adopt([pod(8001), "a"]) == {}
    assert table.is_withdrawn("a")
    assert cluster(pod(8001)).items() < table.publish({RouteKey("b"): (copy("r"),)}).items()
    assert table.adopt([pod(8001), f"large:{pod(8001)}"]) == {}
    assert table.sweep() == {}
    assert table.sweep() == cluster("a")


def test_routes_on_demand_are_few_and_the_least_wanted_go_first(table):
    keys = [RouteKey(name) for name in "abc"]
    table.publish({key: (copy(key.name, http_port=8002),) for key in keys})
    assert table.want_http(keys[0]) == scope("http:a") | cluster("pod-http:127.64.0.10:8002")
    assert table.want_http(keys[1]) == scope("http:b")
    table.used("http:a")
    assert table.want_http(keys[2]) == scope("http:c", "http:b")
    assert table.get(SCOPE, scope_name("http:b")) is None
    assert table.publish({keys[0]: (copy("a2", http_port=8002),)}) == scope("a", "http:a")
    assert table.publish({keys[0]: (copy("a2"),)}) == scope("http:a")
    assert table.get(SCOPE, scope_name("http:a")) is None


def test_revisions_are_routed_once_wanted(table):
    key = RouteKey("r", is_revision=True)
    assert table.publish({key: (copy("r"),)}) == {}
    assert scope("revision:r").items() < table.want_revision("r").items()
    assert table.want_revision("later") == {}
    assert table.publish({RouteKey("later", is_revision=True): (copy("later"),)}) == scope("revision:later")
    assert table.publish({key: ()}) == scope("revision:r")


def test_a_canary_has_a_route_of_its_own(table):
    key = RouteKey("a", canary=True)
    assert scope("canary:a").items() < table.publish({key: (copy("new", http_port=8080),)}).items()
    assert scope("http-canary:a").items() < table.want_http(key).items()


@pytest.mark.parametrize("marks", [{"watched": True}, {"shielded": True}])
def test_a_route_with_more_to_know_of_its_copies_has_a_cluster_of_its_own(table, marks):
    assert table.publish({RouteKey("a"): (copy("r", **marks),)}) == scope("a") | cluster("a")
    [one] = routes(table, "a")
    assert one.route.cluster == "a"
    assert one.name == "by-attempt"
    assert scope("a") | cluster(pod(8001)) | lane(8001) == table.publish({RouteKey("a"): (copy("r"),)})
    table.sweep()
    assert table.sweep() == cluster("a")


def test_the_cluster_of_a_rollout_divides_by_revision(table):
    table.publish({RouteKey("a"): (copy("r1", 1, weight=90), copy("r1", 2, weight=90), copy("r2", 3, weight=10))})
    shape = [
        (e.priority, e.locality.sub_zone, e.load_balancing_weight.value, len(e.lb_endpoints))
        for e in built(table, "a").load_assignment.endpoints
    ]
    assert shape == [(0, "r1", 90, 2), (0, "r2", 10, 1), (1, "", 1, 1)]


def test_a_weight_of_0_is_no_place_at_all(table):
    table.publish({RouteKey("a"): (copy("old", weight=1000), copy("old", 8002, weight=0))})
    assert leads_to(table, "a") == [pod(8001)]
    table.publish({RouteKey("a"): (copy("old", weight=1000), copy("new", weight=0))})
    assert [e.locality.sub_zone for e in built(table, "a").load_assignment.endpoints] == ["old", ""]


def test_the_activators_share_is_where_requests_without_a_copy_go(table):
    share = Upstream("", "192.0.2.1", 1, None, 50)
    table.want_http(RouteKey("a"))
    table.publish({RouteKey("a"): (copy("old", http_port=8080, weight=950), share)})
    for name, port in (("a", 18033), ("http:a", 18008)):
        _, first, last = built(table, name).load_assignment.endpoints
        assert (first.priority, first.load_balancing_weight.value, last.priority) == (0, 50, 1)
        assert first.lb_endpoints == last.lb_endpoints
        assert first.lb_endpoints[0].endpoint.address.socket_address.port_value == port


def sticky(weight: int) -> tuple[Upstream, ...]:
    return (copy("old", weight=1000 - weight, sticky=True), copy("new", weight=weight, sticky=True))


def test_a_sticky_routes_own_cluster_stays_as_weights_change(table):
    assert table.publish({RouteKey("a"): sticky(100)}) == scope("a") | cluster("sticky:a", "a")
    assert table.publish({RouteKey("a"): sticky(200)}) == cluster("sticky:a")
    own = built(table, "a")
    assert (own.cluster_type.name, own.lb_policy) == ("envoy.clusters.composite", cluster_pb2.Cluster.CLUSTER_PROVIDED)
    copies = built(table, "sticky:a")
    assert [e.load_balancing_weight.value for e in copies.load_assignment.endpoints] == [800, 200, 1]


def test_a_route_that_sticks_no_more_leaves_the_cluster_with_its_copies(table):
    table.publish({RouteKey("a"): sticky(100)})
    table.publish({RouteKey("a"): (copy("old", watched=True),)})
    assert leads_to(table, "a") == ["a"]
    assert built(table, "a").lb_policy == cluster_pb2.Cluster.LEAST_REQUEST
    table.sweep()
    assert table.sweep() == cluster("sticky:a")


def limits(table: GatewayTable) -> dict[str, float]:
    found = table.get(ResourceKind.RUNTIME, "bounds")
    assert found is not None
    layer = dict(runtime_pb2.Runtime.FromString(found.content).layer)
    assert all(key.endswith(".default.max_requests") for key in layer)
    return {key.split(".")[1]: value for key, value in layer.items()}


def on(*pods: str) -> tuple[Upstream, ...]:
    return tuple(Upstream("r", f"host-{name}", 8001, 8080, pod=name) for name in pods)


def test_a_bound_holds_for_all_clusters_of_its_pod_and_for_sets_whose_pods_all_have_one(table):
    key = RouteKey("c")
    table.publish({RouteKey("a"): on("one"), RouteKey("b"): on("one", "two"), key: on("three")})
    assert limits(table) == {}
    assert table.bound({"one": 20}) == {(ResourceKind.RUNTIME, "bounds"): None}
    one = "pod:one@host-one:8001"
    assert limits(table) == {one: 20, f"large:{one}": 20}
    table.bound({"one": 20, "two": 30})
    [both] = leads_to(table, "b")
    assert limits(table) == {one: 20, f"large:{one}": 20, both: 50, f"large:{both}": 50}
    assert table.bound({"one": 20, "two": 30}) == {}
    table.bound({"three": 16})
    assert (ResourceKind.RUNTIME, "bounds") in table.want_http(key)
    three, http = "pod:three@host-three:8001", "pod-http:three@host-three:8080"
    assert limits(table) == {three: 16, f"large:{three}": 16, http: 16}
    assert table.bound({}) == {(ResourceKind.RUNTIME, "bounds"): None}
    assert limits(table) == {}
