"""A revision whose runtime changes while its id does not: no pod of the former runtime serves it any more."""

from __future__ import annotations

from shoal.core import events as ev
from shoal.core.types import CopyState, LoadedCopy, PodId, RevisionId
from support.core import World, by_revision, model, pod

OLD, NEW = PodId("old"), PodId("new")
A = RevisionId("a")


def world_with_both() -> World:
    world = World()
    world.join(pod("old", runtime="r1"))
    world.join(pod("new", runtime="r2"))
    world.pass_time(2)
    world.declare(model("a", runtime="r1"))
    world.request(by_revision("a"))
    world.settle()
    assert A in world.servers[OLD].loaded
    return world


def test_a_request_does_not_recall_the_copy_of_the_former_runtime() -> None:
    world = world_with_both()
    world.declare(model("a", runtime="r2"))
    world.request(by_revision("a"))
    world.settle()
    assert A not in world.servers[OLD].loaded
    assert A in world.servers[NEW].loaded


def test_required_copies_do_not_recall_the_copy_of_the_former_runtime() -> None:
    world = world_with_both()
    world.declare(model("a", runtime="r2", least=1))
    world.settle()
    assert A not in world.servers[OLD].loaded
    assert A in world.servers[NEW].loaded


def test_what_a_pod_of_the_former_runtime_reports_is_unloaded() -> None:
    world = world_with_both()
    report = world.servers[OLD].report()
    world.send(ev.PodLeft(OLD))
    world.acknowledge()
    world.declare(model("a", runtime="r2"))
    world.send(ev.PodReported(report.pod, (LoadedCopy(A, 30),), report.incarnation))
    world.settle()
    assert A not in world.servers[OLD].loaded
    view = world.core.model(A)
    assert view is not None
    assert not [copy for copy in view.copies if copy.pod == OLD and copy.state is CopyState.LOADED]
