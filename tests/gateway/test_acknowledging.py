"""What counts as an acknowledgement of routes: the answer to what was sent, of the gateway that is last. No servers."""

from __future__ import annotations

import asyncio

from shoal.core.types import RouteKey
from shoal.gateway.control import GatewayControl
from shoal.gateway.follower import Follower
from shoal.gateway.protocols import Upstream
from shoal.gateway.settings import GatewaySettings
from shoal.gateway.table import GatewayTable, ResourceKind
from shoal_protos.xds import cluster_pb2
from support.gateway import Heard


def route(name: str) -> dict[RouteKey, tuple[Upstream, ...]]:
    return {RouteKey(name): (Upstream(f"{name}__r", "127.0.0.1", 8001, None),)}


def follow(table: GatewayTable) -> Follower:
    """A gateway that has asked for all there is."""
    follower = Follower(table, 0, scoped=True)
    for kind in ResourceKind:
        follower.subscribed(kind, {})
    return follower


def accept(follower: Follower) -> None:
    """Everything that is left to send."""
    while (response := follower.next_response(0.0)) is not None:
        follower.answered(response.nonce, "")


async def test_the_slowest_gateway_speaks_for_all() -> None:
    heard = Heard()
    control = GatewayControl(GatewaySettings(), heard.callbacks)
    followers = [follow(control._table) for _ in range(3)]
    control._streams = {follower: asyncio.Event() for follower in followers}
    for follower in followers:
        accept(follower)
    control.publish(1, route("a"))
    for follower in followers:
        control._report_acknowledged()
        assert heard.acknowledged in ([], [0])
        accept(follower)
    control._report_acknowledged()
    assert heard.acknowledged[-1] == 1


async def test_a_gateway_that_is_new_does_not_speak_before_it_has_the_routes() -> None:
    heard = Heard()
    control = GatewayControl(GatewaySettings(), heard.callbacks)
    control._streams = {follow(control._table): asyncio.Event()}
    control.publish(1, route("a"))
    control._report_acknowledged()
    assert heard.acknowledged == []


def test_only_the_answer_to_what_was_sent_last_acknowledges() -> None:
    table = GatewayTable(GatewaySettings())
    follower = follow(table)
    first = follower.next_response(0.0)
    assert first is not None
    for nonce in ("", "0", "2", "one"):
        follower.answered(nonce, "")
        assert follower.accepted == -1
        assert follower.next_response(0.0) is None, "one response is under way at a time"
    follower.answered(first.nonce, "")
    assert follower.accepted == -1, "scopes are still to come"
    accept(follower)
    assert follower.accepted == 0
    follower.changed(table.publish(route("a")), 1)
    follower.next_response(0.0)
    follower.answered(first.nonce, "")
    assert follower.accepted == 0


def test_a_refusal_is_no_acknowledgement() -> None:
    table = GatewayTable(GatewaySettings())
    follower = follow(table)
    accept(follower)
    follower.changed(table.publish(route("a")), 1)
    response = follower.next_response(0.0)
    assert response is not None
    follower.answered(response.nonce, "a is odd")
    assert follower.accepted == 0


def test_the_weights_of_a_cluster_are_the_shares_themselves_and_make_a_whole() -> None:
    table = GatewayTable(GatewaySettings())
    for weight in (1, 3, 333, 500, 997, 999):
        for sticky in (False, True):
            copies = [
                Upstream(revision, "127.0.0.1", port, None, share, watched=True, sticky=sticky)
                for revision, share in (("old", 1000 - weight), ("new", weight))
                for port in (8001, 8002, 8003)
            ]
            table.publish({RouteKey("a"): tuple(copies)})
            found = table.get(ResourceKind.CLUSTER, "sticky:a" if sticky else "a")
            assert found is not None
            cluster = cluster_pb2.Cluster.FromString(found.content)
            shares = [
                (e.locality.sub_zone, e.load_balancing_weight.value)
                for e in cluster.load_assignment.endpoints
                if e.priority == 0
            ]
            assert shares == [("old", 1000 - weight), ("new", weight)]
