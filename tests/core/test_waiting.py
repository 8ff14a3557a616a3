"""Requests that wait: who answers them, who may refuse them, and when a load is tried again."""

from __future__ import annotations

import pytest

from shoal.core import events as ev
from shoal.core.actions import Forward, RejectCode
from shoal.core.types import EndpointName, PodId, RevisionId, Ticket
from support.core import by_endpoint, by_revision, model, rejection, world_with

A, A1 = EndpointName("a"), RevisionId("a-1")


def test_requests_for_a_removed_endpoint_are_refused_at_once() -> None:
    world = world_with("p1")
    world.declare(model("a-1"))
    world.send(ev.EndpointDeclared(A, A1))
    world.request(by_endpoint("a"))
    world.request(by_revision("a-1"))
    world.send(ev.EndpointRemoved(A))
    assert rejection(world, 1).code is RejectCode.NOT_FOUND
    assert rejection(world, 1).message == "model not found: a"
    assert list(world.tickets) == [2], "who asked for the revision itself goes on waiting"
    world.request(by_endpoint("a"))
    assert rejection(world, 3).code is RejectCode.NOT_FOUND


@pytest.mark.parametrize("counts", [True, False], ids=["of the model", "of the pod"])
def test_one_pod_s_failure_refuses_nobody(counts: bool) -> None:
    world = world_with("p1", "p2")
    world.declare(model("a"))
    for _ in range(3):
        world.request(by_revision("a"))
    (first,) = (name for name, server in world.servers.items() if server.loading)
    world.failed(first, RevisionId("a"), counts=counts)
    assert not world.answers
    world.settle()
    assert [type(answer) for answer in world.answers.values()] == [Forward] * 3
    assert {answer.pod for answer in world.answers.values()} == {"p1", "p2"} - {first}  # type: ignore[union-attr]


def test_what_one_request_tried_in_vain_refuses_no_other() -> None:
    world = world_with("p1", "p2")
    world.declare(model("a"))
    world.request(by_revision("a"))
    (first,) = (name for name, server in world.servers.items() if server.loading)
    world.request(by_revision("a"), frozenset({"p1", "p2"}) - {first})
    world.failed(first, RevisionId("a"))
    world.settle()
    assert [type(answer) for answer in world.answers.values()] == [Forward] * 2


def test_a_pod_that_could_not_load_is_asked_again_after_five_seconds_each_time() -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.request(by_revision("a"))
    for _ in range(5):
        world.failed(PodId("p1"), RevisionId("a"), "connection refused", counts=False)
        world.settle()
        assert not world.servers[PodId("p1")].loading
        world.wait(4.5)
        assert not world.servers[PodId("p1")].loading
        world.wait(0.5)
        assert RevisionId("a") in world.servers[PodId("p1")].loading
    world.settle()
    assert isinstance(world.answers[Ticket(1)], Forward)


def test_the_core_tells_where_a_load_is_queued_and_since_when() -> None:
    world = world_with("p1")
    for name in ("a", "b"):
        world.declare(model(name))
    world.request(by_revision("a"))
    world.pass_time(1)
    world.request(by_revision("b"))
    since = world.now
    world.pass_time(1)
    assert world.core.queued(RevisionId("a")) == {}
    assert world.core.queued(RevisionId("b")) == {PodId("p1"): since}
    world.loaded(PodId("p1"), RevisionId("a"))
    assert world.core.queued(RevisionId("b")) == {}
