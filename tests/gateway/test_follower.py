"""One gateway that follows the table, step by step without I/O, as `lua` and Envoy never see it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.core.types import RouteKey
from shoal.gateway.api import Upstream
from shoal.gateway.follower import BATCH, Follower
from shoal.gateway.settings import GatewaySettings
from shoal.gateway.table import RouteTable
from shoal_protos.xds import cluster_pb2


def copy(revision: str, port: int = 8001, http_port: int | None = None, weight: int = 1) -> Upstream:
    return Upstream(revision, "127.64.0.10", port, http_port, weight)


@pytest.fixture
def table() -> RouteTable:
    return RouteTable(GatewaySettings(max_http_routes=2, max_revision_routes=2))


def routed(table: RouteTable, *names: str) -> None:
    table.publish({RouteKey(name): (copy(f"{name}__r"),) for name in names})


def exchange(follower: Follower, error: str = "") -> tuple[list[str], list[str]]:
    response = follower.next_response(0.0)
    assert response is not None
    follower.answered(response.nonce, error)
    return [r.name for r in response.resources], list(response.removed_resources)


def test_a_new_gateway_gets_everything_and_then_only_changes(table):
    routed(table, "a", "b")
    follower = Follower(table, 3, {})
    assert follower.accepted == -1
    assert exchange(follower) == (["a", "b"], [])
    assert follower.accepted == 3
    assert follower.next_response(0.0) is None
    follower.changed(table.publish({RouteKey("a"): ()}), 4)
    assert exchange(follower) == (["a"], [])
    assert follower.accepted == 4


def test_the_first_response_may_be_empty(table):
    follower = Follower(table, 0, {})
    assert exchange(follower) == ([], [])
    assert follower.accepted == 0


def test_a_gateway_that_comes_back_keeps_what_is_current(table):
    routed(table, "same", "changed", "new")
    known = {r.name: r.version for r in table if r.name == "same"} | {"changed": "old", "gone": "x"}
    assert exchange(Follower(table, 1, known)) == (["changed", "new"], ["gone"])


def test_versions_depend_on_content_only(table):
    routed(table, "a")
    again = RouteTable(GatewaySettings())
    routed(again, "a")
    assert [r.version for r in table] == [r.version for r in again]
    other = RouteTable(GatewaySettings(max_message_bytes=4096))
    routed(other, "a")
    assert [r.version for r in table] != [r.version for r in other]


def test_changes_meanwhile_are_collected_into_the_next(table):
    routed(table, "a")
    follower = Follower(table, 1, {})
    first = follower.next_response(0.0)
    for version, name in enumerate("bcd", start=2):
        follower.changed(table.publish({RouteKey(name): (copy(name),)}), version)
        assert follower.next_response(0.0) is None
    follower.answered(first.nonce, "")
    assert follower.accepted == 1
    assert exchange(follower)[0] == ["b", "c", "d"]
    assert follower.accepted == 4


def test_many_routes_come_in_batches_and_count_when_all_are_there(table):
    routed(table, *(f"m{i}" for i in range(BATCH + 1)))
    follower = Follower(table, 7, {})
    assert len(exchange(follower)[0]) == BATCH
    assert follower.accepted == -1
    assert len(exchange(follower)[0]) == 1
    assert follower.accepted == 7


def test_a_refused_batch_is_sent_one_by_one_and_the_culprit_taken_away(table):
    routed(table, "a", "bad", "c")
    follower = Follower(table, 5, {})
    response = follower.next_response(0.0)
    assert "bad is wrong" in follower.answered(response.nonce, "bad is wrong")
    assert exchange(follower) == (["a"], [])
    assert exchange(follower, "bad is wrong") == (["bad"], [])
    assert exchange(follower) == (["c"], [])
    assert follower.accepted == -1
    assert exchange(follower) == ([], ["bad"])
    assert follower.accepted == 5
    follower.changed(table.publish({RouteKey("bad"): (copy("better"),)}), 6)
    assert exchange(follower) == (["bad"], [])


def test_answers_to_nothing_are_passed_over(table):
    follower = Follower(table, 1, {})
    assert follower.answered("", "") is None
    assert follower.answered("99", "what") is None
    assert follower.accepted == -1


def test_a_gateway_that_does_not_answer_is_overdue(table):
    follower = Follower(table, 1, {})
    assert not follower.overdue(100.0, 5.0)
    follower.next_response(100.0)
    assert not follower.overdue(105.0, 5.0)
    assert follower.overdue(105.1, 5.0)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_gateway_that_accepts_ends_with_the_table(data):
    table = RouteTable(GatewaySettings())
    follower = Follower(table, 0, {})
    has: dict[str, str] = {}
    waiting = None
    for version in range(1, data.draw(st.integers(1, 25))):
        name = data.draw(st.sampled_from("abcd"))
        copies = tuple(copy(r) for r in data.draw(st.lists(st.sampled_from(["r1", "r2"]), unique=True)))
        follower.changed(table.publish({RouteKey(name): copies}), version)
        if data.draw(st.booleans()):
            waiting = waiting or follower.next_response(0.0)
        if waiting and data.draw(st.booleans()):
            _apply(waiting, has)
            follower.answered(waiting.nonce, "")
            waiting = None
    while waiting or (waiting := follower.next_response(0.0)):
        _apply(waiting, has)
        follower.answered(waiting.nonce, "")
        waiting = None
    assert has == {route.name: route.version for route in table}


def _apply(response, has):
    has.update({r.name: r.version for r in response.resources})
    for name in response.removed_resources:
        has.pop(name, None)


def test_clusters_hold_copies_by_revision_and_the_activator_behind_them(table):
    table.publish({RouteKey("a"): (copy("r1", 1, weight=90), copy("r1", 2, weight=90), copy("r2", 3, weight=10))})
    cluster = cluster_pb2.Cluster.FromString(table.get("a").serialize())
    shape = [
        (e.priority, e.locality.sub_zone, e.load_balancing_weight.value, len(e.lb_endpoints))
        for e in cluster.load_assignment.endpoints
    ]
    assert shape == [(0, "r1", 90, 2), (0, "r2", 10, 1), (1, "", 1, 1)]


def test_routes_on_demand_are_few_and_the_least_wanted_go_first(table):
    keys = [RouteKey(name) for name in "abc"]
    table.publish({key: (copy(key.name, http_port=8002),) for key in keys})
    assert {r.name for r in table} == {"a", "b", "c"}
    assert table.want_http(keys[0]) == {"http:a"}
    assert table.want_http(keys[1]) == {"http:b"}
    table.used("http:a")
    assert table.want_http(keys[2]) == {"http:c", "http:b"}
    assert table.get("http:b").upstreams == ()
    assert table.publish({keys[0]: (copy("a2", http_port=8002),)}) == {"a", "http:a"}
    assert table.publish({keys[0]: (copy("a2"),)}) == {"a", "http:a"}
    assert table.get("http:a").upstreams == ()


def test_a_withdrawn_route_leads_to_the_activator_until_it_was_swept_twice(table):
    routed(table, "a", "b")
    assert table.publish({RouteKey("a"): ()}) == {"a"}
    cluster = cluster_pb2.Cluster.FromString(table.get("a").serialize())
    assert [(e.priority, len(e.lb_endpoints)) for e in cluster.load_assignment.endpoints] == [(1, 1)]
    assert table.publish({RouteKey("a"): ()}) == set()
    assert table.sweep() == set()
    assert table.publish({RouteKey("b"): ()}) == {"b"}
    assert table.sweep() == {"a"}
    assert table.get("a") is None
    assert table.sweep() == {"b"}
    assert len(table) == 0


def test_a_route_that_comes_back_is_not_removed(table):
    routed(table, "a")
    table.publish({RouteKey("a"): ()})
    table.sweep()
    routed(table, "a")
    assert table.sweep() == set()
    table.publish({RouteKey("a"): ()})
    assert table.sweep() == set()  # counted anew
    assert table.sweep() == {"a"}


def test_few_withdrawn_routes_are_kept_and_the_oldest_go_first():
    table = RouteTable(GatewaySettings(max_withdrawn_routes=2))
    routed(table, "a", "b", "c")
    for name in "ab":
        table.publish({RouteKey(name): ()})
    assert table.publish({RouteKey("c"): ()}) == {"a", "c"}
    assert {r.name for r in table} == {"b", "c"}


def test_what_a_gateway_has_from_another_mesh_is_withdrawn_first(table):
    routed(table, "a", "b")
    current = {r.name: r.version for r in table}
    assert table.adopt(["a", "http:gone", "http-like"]) == {"http:gone", "http-like"}
    known = current | {"http:gone": "x", "http-like": "y"}
    assert exchange(Follower(table, 1, known)) == (["http:gone", "http-like"], [])
    ports = {
        name: cluster_pb2.Cluster.FromString(table.get(name).serialize())
        .load_assignment.endpoints[0]
        .lb_endpoints[0]
        .endpoint.address.socket_address.port_value
        for name in ("http:gone", "http-like")
    }
    settings = GatewaySettings()
    assert ports == {"http:gone": settings.activator_http.port, "http-like": settings.activator_grpc.port}


def test_revisions_are_routed_once_wanted(table):
    key = RouteKey("r", is_revision=True)
    assert table.publish({key: (copy("r"),)}) == set()
    assert table.want_revision("r") == {"revision:r"}
    assert table.want_revision("later") == set()
    assert table.publish({RouteKey("later", is_revision=True): (copy("later"),)}) == {"revision:later"}
    assert table.publish({key: ()}) == {"revision:r"}


def sticky(weight: int) -> tuple[Upstream, ...]:
    return (
        Upstream("old", "127.64.0.10", 8001, None, 1000 - weight, sticky=True),
        Upstream("new", "127.64.0.10", 8001, None, weight, sticky=True),
    )


def test_a_sticky_route_comes_after_the_cluster_with_its_copies_and_leaves_it_before_it_goes(table):
    follower = Follower(table, 1, {})
    exchange(follower)
    follower.changed(table.publish({RouteKey("b"): sticky(100), RouteKey("a"): sticky(100)}), 2)
    names, _ = exchange(follower)
    assert sorted(names) == ["a", "b", "sticky:a", "sticky:b"]
    assert all(names.index(f"sticky:{name}") < names.index(name) for name in ("a", "b"))

    routed(table, "a")
    follower.changed({"sticky:a", "a"}, 3)
    assert exchange(follower) == (["a", "sticky:a"], [])
    assert [u.revision for u in table.get("a").upstreams] == ["a__r"]
    assert table.get("sticky:a").upstreams == ()
    table.sweep()
    assert table.sweep() == {"sticky:a"}
    assert table.get("a") is not None


def test_a_sticky_routes_own_cluster_stays_as_weights_change(table):
    table.publish({RouteKey("a"): sticky(100)})
    before = {r.name: r.version for r in table}
    assert table.publish({RouteKey("a"): sticky(200)}) == {"a", "sticky:a"}
    after = {r.name: r.version for r in table}
    assert before["a"] == after["a"]
    assert before["sticky:a"] != after["sticky:a"]
    own = cluster_pb2.Cluster.FromString(table.get("a").serialize())
    assert (own.cluster_type.name, own.lb_policy) == ("envoy.clusters.composite", cluster_pb2.Cluster.CLUSTER_PROVIDED)
    copies = cluster_pb2.Cluster.FromString(table.get("sticky:a").serialize())
    assert [e.load_balancing_weight.value for e in copies.load_assignment.endpoints] == [800, 200, 1]


def test_the_sticky_clusters_of_another_mesh_are_withdrawn_too(table):
    assert table.adopt(["a", "sticky:a", "sticky:http:a"]) == {"a", "sticky:a", "sticky:http:a"}
    ports = [
        cluster_pb2.Cluster.FromString(table.get(name).serialize())
        .load_assignment.endpoints[0]
        .lb_endpoints[0]
        .endpoint.address.socket_address.port_value
        for name in ("sticky:a", "sticky:http:a")
    ]
    assert ports == [18033, 18008]


def test_a_weight_of_0_is_no_place_at_all(table):
    table.publish({RouteKey("a"): (copy("old", weight=1000), copy("new", weight=0))})
    cluster = cluster_pb2.Cluster.FromString(table.get("a").serialize())
    assert [e.locality.sub_zone for e in cluster.load_assignment.endpoints] == ["old", ""]


def test_the_activators_share_is_where_requests_without_a_copy_go(table):
    share = Upstream("", "192.0.2.1", 1, None, 50)
    table.want_http(RouteKey("a"))
    table.publish({RouteKey("a"): (copy("old", http_port=8080, weight=950), share)})
    for name, port in (("a", 18033), ("http:a", 18008)):
        cluster = cluster_pb2.Cluster.FromString(table.get(name).serialize())
        _, first, last = cluster.load_assignment.endpoints
        assert (first.priority, first.load_balancing_weight.value, last.priority) == (0, 50, 1)
        assert first.lb_endpoints == last.lb_endpoints
        assert first.lb_endpoints[0].endpoint.address.socket_address.port_value == port


def test_a_canary_has_a_route_of_its_own(table):
    key = RouteKey("a", canary=True)
    assert table.publish({key: (copy("new", http_port=8080),)}) == {"canary:a"}
    assert table.want_http(key) == {"http-canary:a"}
