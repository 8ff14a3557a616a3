"""What is told of models on standby when their runtime gets its first pod or loses its last."""

from __future__ import annotations

from shoal.core import events as ev
from shoal.core.actions import Changed
from shoal.core.types import EndpointName, FailureReason, ModelState, PodId, RevisionId
from support.core import START, World, by_revision, model, pod

NAME = EndpointName("a")


def told(world: World, event: ev.Event) -> set[EndpointName]:
    actions = world.core.handle(event, START)
    return {name for action in actions if isinstance(action, Changed) for name in action.endpoints}


def test_idle_models_are_told_of_the_first_pod_and_of_the_last_but_not_of_others():
    world = World()
    world.declare(model("a-1"), load=False)
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    view = world.core.endpoint(NAME)
    assert view is not None
    assert view.failure is not None
    assert (view.active_model.state, view.failure.reason) == (ModelState.STANDBY, FailureReason.RUNTIME_UNHEALTHY)
    assert view.failure.message == "Waiting for supporting runtime Pod to become available"
    assert view.failure.at == 0.0, "there never was a pod"
    assert told(world, ev.PodReported(pod("p1"), (), "0")) == {NAME}
    view = world.core.endpoint(NAME)
    assert view is not None
    assert view.failure is None
    assert told(world, ev.PodReported(pod("p2"), (), "0")) == set()
    assert told(world, ev.PodLeft(PodId("p2"))) == set()
    assert told(world, ev.PodLeft(PodId("p1"))) == {NAME}


def test_a_request_can_be_told_that_its_runtime_has_no_pod():
    world = World()
    world.declare(model("a-1"), load=False)
    assert world.core.lacks_pods(by_revision("a-1"))
    assert not world.core.lacks_pods(by_revision("nobody-declared-it"))
    world.join(pod("p1"))
    assert not world.core.lacks_pods(by_revision("a-1"))


def test_other_runtimes_are_not_concerned():
    world = World()
    world.declare(model("a-1"), load=False)
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    assert told(world, ev.PodReported(pod("p1", runtime="other"), (), "0")) == set()
