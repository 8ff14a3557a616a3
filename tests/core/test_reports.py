"""What pods and others report: sizes, copies, traffic; also late, twice, or about what is not there."""

from __future__ import annotations

from shoal.core import events as ev
from shoal.core.actions import Changed
from shoal.core.rollout.measure import Observation
from shoal.core.types import CopyState, EndpointName, LoadedCopy, PodId, RevisionId
from support.core import Server, World, by_revision, model, pod, world_with

P1, A = PodId("p1"), RevisionId("a")


def loaded(size: int = 30) -> World:
    world = world_with("p1")
    world.declare(model("a", size), load=True)
    world.settle()
    return world


def used(world: World) -> int:
    view = world.core.pod(P1)
    assert view is not None
    return view.used_bytes


def test_a_pod_that_reports_again_goes_on_with_its_loads() -> None:
    world = world_with("p1")
    world.declare(model("a"))
    world.request(by_revision("a"))
    before = list(world.core.copies())
    world.send(world.servers[P1].report())
    assert list(world.core.copies()) == before
    assert before[0].state is CopyState.LOADING


def test_what_a_pod_reports_besides_a_load_whose_answer_is_on_its_way_is_used() -> None:
    world = world_with("p1")
    for name in ("a", "b"):
        world.declare(model(name))
    world.request(by_revision("a"))
    world.servers[P1].loaded[RevisionId("b")] = 30
    world.send(ev.PodReported(pod("p1"), (LoadedCopy(A, 30), LoadedCopy(RevisionId("b"), 30)), "0"))
    assert {copy.revision: copy.state for copy in world.core.copies()} == {
        "a": CopyState.LOADING,
        "b": CopyState.LOADED,
    }


def test_a_size_that_a_pod_does_not_know_changes_nothing() -> None:
    world = loaded()
    world.send(ev.PodReported(pod("p1"), (LoadedCopy(A, 0),), "0"))
    world.send(ev.SizeMeasured(P1, A, 0))
    assert used(world) == 30


def test_the_size_of_a_copy_that_is_not_there_changes_nothing() -> None:
    world = loaded()
    world.send(ev.SizeMeasured(PodId("p2"), A, 90))
    world.send(ev.SizeMeasured(P1, RevisionId("b"), 90))
    assert used(world) == 30


def test_a_measured_size_is_told_and_what_the_next_copy_is_expected_to_take() -> None:
    world = loaded()
    actions = world.send(ev.SizeMeasured(P1, A, 70))
    assert Changed(frozenset(), frozenset({A})) in actions
    world.join(pod("p2", capacity=60))
    world.declare(model("a", least=2))
    assert not world.servers[PodId("p2")].loading
    assert used(world) == 70


def test_a_copy_found_on_a_pod_is_used_as_it_is() -> None:
    world = World()
    world.declare(model("a", 10))
    world.servers[P1] = Server(pod("p1"), loaded={A: 40})
    world.send(world.servers[P1].report())
    world.request(by_revision("a"))
    assert not world.tickets
    assert used(world) == 40


def test_a_revision_declared_again_while_its_old_copy_leaves_is_as_cold_as_it_says() -> None:
    world = loaded()
    spec = world.models.pop(A)
    world.send(ev.ModelRemoved(A))
    world.declare(spec, last_used=world.now - 500.0)
    view = world.core.model(A)
    assert view is not None
    assert view.last_used == world.now - 500.0


def test_traffic_of_an_endpoint_without_a_rollout_is_passed_over() -> None:
    world = loaded()
    world.send(ev.EndpointDeclared(EndpointName("a"), A))
    for name in ("a", "nobody"):
        assert world.send(ev.TrafficObserved(EndpointName(name), (Observation("a", 5, 5),))) == []
