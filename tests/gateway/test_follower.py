"""One gateway that follows the table, step by step without I/O."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.core.types import RouteKey
from shoal.gateway.follower import BATCH, Follower
from shoal.gateway.protocols import Upstream
from shoal.gateway.scopes import SCOPE_TYPE, scope_name
from shoal.gateway.settings import GatewaySettings
from shoal.gateway.table import GatewayTable, ResourceKind
from shoal_protos.xds import discovery_pb2, route_pb2
from speed import times

CLUSTER, SCOPE = ResourceKind.CLUSTER, ResourceKind.SCOPE
POD = "pod:127.64.0.10:8001"
LANE = f"large:{POD}"
LANE_SCOPE = scope_name(f"shoal:large:{POD}")


def copy(revision: str, port: int = 8001, weight: int = 1, **marks: bool) -> Upstream:
    return Upstream(revision, "127.64.0.10", port, None, weight, **marks)


def scopes(*routes: str) -> list[str]:
    return [scope_name(route) for route in routes]


@pytest.fixture
def table() -> GatewayTable:
    return GatewayTable(GatewaySettings())


def routed(table: GatewayTable, *names: str) -> None:
    table.publish({RouteKey(name): (copy(f"{name}__r"),) for name in names})


def follow(table: GatewayTable, version: int, known: Iterable[str] = (), *, scoped: bool = True) -> Follower:
    """A gateway that has asked for both kinds, and has some of the table already."""
    follower = Follower(table, version, scoped=scoped)
    for kind in (CLUSTER, SCOPE) if scoped else (CLUSTER,):
        has = {name: resource.version for name in known if (resource := table.get(kind, name)) is not None}
        follower.subscribed(kind, has)
    return follower


def settled(table: GatewayTable, version: int) -> Follower:
    """One that has everything."""
    follower = follow(table, version)
    finish(follower)
    return follower


def exchange(follower: Follower, error: str = "") -> tuple[list[str], list[str]]:
    response = follower.next_response(0.0)
    assert response is not None
    follower.answered(response.nonce, error)
    return [r.name for r in response.resources], list(response.removed_resources)


def finish(follower: Follower) -> list[discovery_pb2.DeltaDiscoveryResponse]:
    """All that is left to send, accepted."""
    sent = []
    while (response := follower.next_response(0.0)) is not None:
        sent.append(response)
        follower.answered(response.nonce, "")
    return sent


def test_a_new_gateway_gets_clusters_then_scopes_and_later_only_changes(table):
    routed(table, "a", "b")
    follower = follow(table, 3)
    assert exchange(follower) == ([POD, LANE], [])
    assert follower.accepted == -1
    names, removed = exchange(follower)
    assert set(names) == set(table.names(SCOPE)) >= {*scopes("a", "b"), LANE_SCOPE}
    assert names.index(LANE_SCOPE) < names.index(scope_name("a"))
    assert not removed
    assert follower.accepted == 3
    assert follower.next_response(0.0) is None
    follower.changed(table.publish({RouteKey("a"): ()}), 4)
    assert exchange(follower) == ([], scopes("a"))
    assert follower.accepted == 4
    assert follower.next_response(0.0) is None


def test_scopes_come_once_the_gateway_asks_for_them(table):
    follower = Follower(table, 5, scoped=True)
    follower.subscribed(CLUSTER, {})
    assert exchange(follower) == ([], [])  # gateways open their ports when they have it
    assert follower.next_response(0.0) is None
    assert follower.accepted == -1
    follower.subscribed(SCOPE, {})
    assert exchange(follower)[0] == list(table.names(SCOPE))
    assert follower.accepted == 5


def test_a_gateway_that_comes_back_keeps_what_is_current(table):
    routed(table, "same", "changed", "new")
    follower = Follower(table, 1, scoped=True)
    follower.subscribed(CLUSTER, {name: table.get(CLUSTER, name).version for name in table.names(CLUSTER)})
    current = {name: table.get(SCOPE, name).version for name in table.names(SCOPE)}
    [same, changed, new, gone] = scopes("same", "changed", "new", "gone")
    del current[new]
    current |= {same: current[same] + "~3", changed: "old", gone: "x"}
    follower.subscribed(SCOPE, current)
    assert exchange(follower) == ([], [])
    assert exchange(follower) == ([changed, new], [gone])
    assert follower.accepted == 1


def test_bounds_come_last_and_are_no_part_of_the_routes(table):
    table.publish({RouteKey("a"): (Upstream("a__r", "127.64.0.10", 8001, None, pod="pod-1"),)})
    follower = follow(table, 1)
    follower.subscribed(ResourceKind.RUNTIME, {})
    exchange(follower)
    exchange(follower)
    assert follower.accepted == 1
    assert exchange(follower) == (["bounds"], [])
    follower.changed(table.bound({"pod-1": 16}), 1)
    assert follower.accepted == 1
    assert exchange(follower) == (["bounds"], [])
    follower.changed(table.bound({"pod-1": 16}), 1)
    assert follower.next_response(0.0) is None


def test_a_gateway_that_does_not_ask_for_bounds_gets_none(table):
    table.publish({RouteKey("a"): (Upstream("a__r", "127.64.0.10", 8001, None, pod="pod-1"),)})
    follower = settled(table, 1)
    follower.changed(table.bound({"pod-1": 16}), 1)
    assert follower.next_response(0.0) is None


def test_versions_depend_on_content_only(table):
    def versions(of: GatewayTable) -> list[str]:
        return [of.get(kind, name).version for kind in ResourceKind for name in of.names(kind)]

    routed(table, "a")
    again = GatewayTable(GatewaySettings())
    routed(again, "a")
    assert versions(table) == versions(again)
    other = GatewayTable(GatewaySettings(max_message_bytes=4096))
    routed(other, "a")
    assert versions(table) != versions(other)


def test_changes_meanwhile_are_collected_into_the_next(table):
    follower = follow(table, 1)
    exchange(follower)
    first = follower.next_response(0.0)
    for version, name in enumerate("bcd", start=2):
        follower.changed(table.publish({RouteKey(name): (copy(name),)}), version)
        assert follower.next_response(0.0) is None
    follower.answered(first.nonce, "")
    assert follower.accepted == 1
    assert exchange(follower)[0] == [POD, LANE]
    assert follower.accepted == 1
    assert set(exchange(follower)[0]) == {LANE_SCOPE, *scopes("b", "c", "d")}
    assert follower.accepted == 4


def test_many_routes_come_in_batches_and_count_when_all_are_there(table):
    fixed = len(list(table.names(SCOPE)))
    routed(table, *(f"m{i}" for i in range(BATCH)))
    follower = follow(table, 7)
    exchange(follower)
    assert len(exchange(follower)[0]) == BATCH
    assert follower.accepted == -1
    assert len(exchange(follower)[0]) == fixed + 1
    assert follower.accepted == 7


def test_a_refused_batch_is_sent_one_by_one_in_another_form_and_the_culprit_taken_away(table):
    follower = settled(table, 4)
    follower.changed(table.publish({RouteKey(name): (copy(name),) for name in ("b", "bad", "c")}), 5)
    exchange(follower)
    first = {r.name: r for r in follower.next_response(0.0).resources}
    assert {*scopes("b", "bad", "c")} <= set(first)
    assert "bad is wrong" in follower.answered(str(follower._count), "bad is wrong")
    for name in first:
        response = follower.next_response(0.0)
        [again] = response.resources
        assert again.name == name
        # Envoy may take what it was sent together with the refused one for known, and yet not have it.
        assert again.version != first[name].version
        names = [
            route_pb2.ScopedRouteConfiguration.FromString(one.resource.value).route_configuration.name
            for one in (first[name], again)
        ]
        assert names[0] != names[1]
        follower.answered(response.nonce, "bad is wrong" if name == scope_name("bad") else "")
    assert follower.accepted == 4
    assert exchange(follower) == ([], scopes("bad"))
    assert follower.accepted == 5
    follower.changed(table.publish({RouteKey("bad"): (copy("better"),)}), 6)
    assert exchange(follower) == (scopes("bad"), [])


def test_scopes_of_a_refused_cluster_are_not_for_that_gateway(table):
    follower = settled(table, 1)
    marked = copy("r", watched=True)
    follower.changed(table.publish({RouteKey("a"): (copy("r"),), RouteKey("bad"): (marked,)}), 2)
    exchange(follower, "bad is wrong")
    refused = [exchange(follower, "bad is wrong" if name == "bad" else "")[0] for name in (POD, LANE, "bad")]
    assert sorted(name for names in refused for name in names) == sorted((POD, LANE, "bad"))
    response = follower.next_response(0.0)
    assert list(response.removed_resources) == ["bad"]
    follower.answered(response.nonce, "")
    names, removed = exchange(follower)
    assert (set(names), removed) == ({LANE_SCOPE, *scopes("a")}, scopes("bad"))
    assert follower.accepted == 2
    follower.changed(table.publish({RouteKey("bad"): (copy("r2", watched=True),)}), 3)
    assert exchange(follower) == (["bad"], [])
    assert exchange(follower) == (scopes("bad"), [])
    assert follower.accepted == 3


def test_answers_to_nothing_are_passed_over(table):
    follower = follow(table, 1)
    assert follower.answered("", "") is None
    assert follower.answered("99", "what") is None
    assert follower.accepted == -1


def test_a_gateway_that_does_not_answer_is_overdue(table):
    follower = follow(table, 1)
    assert not follower.overdue(100.0, 5.0)
    follower.next_response(100.0)
    assert not follower.overdue(105.0, 5.0)
    assert follower.overdue(105.1, 5.0)


def test_clusters_go_when_all_scopes_have_left_them(table):
    routed(table, "a")
    follower = settled(table, 1)
    follower.changed(table.publish({RouteKey("a"): (copy("r", 8002),)}), 2)
    table.sweep()
    follower.changed(table.sweep(), 2)
    first, second, third = finish(follower)
    assert first.type_url == CLUSTER.value
    assert {r.name for r in first.resources} == {"pod:127.64.0.10:8002", "large:pod:127.64.0.10:8002"}
    assert second.type_url == SCOPE_TYPE
    assert scope_name("a") in {r.name for r in second.resources}
    assert list(second.removed_resources) == [LANE_SCOPE]
    assert set(third.removed_resources) == {POD, LANE}
    assert follower.accepted == 2


def test_what_a_gateway_has_of_another_mesh_stays_until_it_is_swept_and_its_scopes_are_gone(table):
    routed(table, "a")
    follower = Follower(table, 1, scoped=True)
    clusters = {name: table.get(CLUSTER, name).version for name in table.names(CLUSTER)} | {"pod:gone": "x", "b": "y"}
    assert table.adopt(clusters) == {}
    follower.subscribed(CLUSTER, clusters)
    follower.subscribed(SCOPE, {scope_name("b"): "z"})
    exchange(follower)
    assert scope_name("b") in exchange(follower)[1]
    assert follower.accepted == 1
    assert follower.next_response(0.0) is None
    table.sweep()
    follower.changed(table.sweep(), 1)
    assert sorted(exchange(follower)[1]) == ["b", "pod:gone"]


def test_a_gateway_of_an_earlier_shoal_is_left_without_the_clusters_it_routes_by(table):
    """It asks the activator for models without a cluster."""
    routed(table, "a")
    known = {"a": "x", "sticky:b": "y"}
    assert table.adopt(known) == {}
    follower = Follower(table, 1, scoped=False)
    follower.subscribed(CLUSTER, known)
    assert exchange(follower) == ([POD, LANE], [])
    assert exchange(follower) == ([], ["a", "sticky:b"])
    assert follower.accepted == 1


@settings(max_examples=times(200), deadline=None)
@given(st.data())
def test_a_gateway_that_accepts_ends_with_the_table_and_never_has_a_scope_without_its_clusters(data):
    table = GatewayTable(GatewaySettings(max_withdrawn_clusters=2))
    follower = follow(table, 0)
    has: dict[str, dict[str, str]] = {kind.value: {} for kind in ResourceKind}
    waiting = None

    def apply(response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        kind = has[response.type_url]
        kind.update({r.name: r.version for r in response.resources})
        for name in response.removed_resources:
            kind.pop(name, None)
        if response.type_url == SCOPE_TYPE:
            for resource in response.resources:
                scope = route_pb2.ScopedRouteConfiguration.FromString(resource.resource.value)
                named = {
                    route.route.cluster for host in scope.route_configuration.virtual_hosts for route in host.routes
                }
                assert {name for name in named if name and not name.startswith("shoal:")} <= set(has[CLUSTER.value])

    for version in range(1, data.draw(st.integers(1, 25))):
        name = data.draw(st.sampled_from("abcd"))
        ports = data.draw(st.lists(st.sampled_from([1, 2, 3]), unique=True))
        marked = data.draw(st.sampled_from([{}, {"watched": True}, {"sticky": True}]))
        copies = tuple(copy(data.draw(st.sampled_from(["r1", "r2"])), port, **marked) for port in ports)
        follower.changed(table.publish({RouteKey(name): copies}), version)
        if data.draw(st.booleans()):
            follower.changed(table.sweep(), version)
        if data.draw(st.booleans()):
            waiting = waiting or follower.next_response(0.0)
        if waiting and data.draw(st.booleans()):
            apply(waiting)
            follower.answered(waiting.nonce, "")
            waiting = None
    while waiting or (waiting := follower.next_response(0.0)):
        apply(waiting)
        follower.answered(waiting.nonce, "")
        waiting = None
    for kind in set(ResourceKind) - {ResourceKind.RUNTIME}:  # nobody asked for that
        assert has[kind.value] == {name: table.get(kind, name).version for name in table.names(kind)}


def sticky(weight: int) -> tuple[Upstream, ...]:
    return (copy("old", weight=1000 - weight, sticky=True), copy("new", weight=weight, sticky=True))


def test_a_sticky_routes_cluster_comes_after_the_one_with_its_copies(table):
    follower = settled(table, 1)
    follower.changed(table.publish({RouteKey("b"): sticky(100), RouteKey("a"): sticky(100)}), 2)
    names, _ = exchange(follower)
    assert sorted(names) == ["a", "b", "sticky:a", "sticky:b"]
    assert all(names.index(f"sticky:{name}") < names.index(name) for name in ("a", "b"))
