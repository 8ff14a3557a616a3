"""Pods that could not do a load are left alone for a while; whoever waits is looked at again when such a pod goes."""

from __future__ import annotations

from shoal.core import events as ev
from shoal.core.actions import Reject, RejectCode
from shoal.core.types import EndpointName, FailureReason, PodId, RevisionId, Ticket, Transition
from support.core import World, by_revision, model, pod

P1, P2 = PodId("p1"), PodId("p2")
A = RevisionId("a")


def world_with_a_full_pod() -> World:
    """The second pod has no room for anything; the first one has."""
    world = World()
    world.join(pod("p2"))
    world.pass_time(2)
    world.declare(model("kept", 100, least=1))
    world.settle()
    world.join(pod("p1"))
    world.declare(model("a"))
    return world


def test_a_request_is_answered_when_the_pod_it_waits_for_leaves_within_its_pause() -> None:
    world = world_with_a_full_pod()
    world.request(by_revision("a"))
    world.failed(P1, A, "broken off", counts=False)
    world.unloaded(P1, A)
    assert Ticket(1) not in world.answers
    world.leave(P1)
    answer = world.answers.get(Ticket(1))
    assert isinstance(answer, Reject)
    assert answer.code is RejectCode.RESOURCE_EXHAUSTED


def test_a_change_is_blocked_when_the_pod_it_waits_for_leaves_within_its_pause() -> None:
    world = world_with_a_full_pod()
    world.declare(model("idle"))
    world.send(ev.EndpointDeclared(EndpointName("e"), RevisionId("idle")))
    world.send(ev.EndpointDeclared(EndpointName("e"), A))
    world.failed(P1, A, "broken off", counts=False)
    world.unloaded(P1, A)
    world.leave(P1)
    view = world.core.endpoint(EndpointName("e"))
    assert view is not None
    assert view.transition is Transition.BLOCKED_BY_FAILED_LOAD
    assert view.failure is not None
    assert view.failure.reason is FailureReason.MODEL_LOAD_FAILED
