"""A copy on its way out that is recalled and evicted again: it waits for one acknowledgement, the right one."""

from __future__ import annotations

import pytest

from shoal.core import core as core_module
from shoal.core import events as ev
from shoal.core.actions import PublishRoutes
from shoal.core.state import State
from shoal.core.types import CopyState, PodId, RevisionId
from support.core import World, by_revision, model, pod

P1 = PodId("p1")
A, B = RevisionId("a"), RevisionId("b")


def full_world() -> World:
    """Two models fill a pod; the colder one, `a`, is being withdrawn to make room for `c`."""
    world = World()
    world.join(pod("p1", capacity=60))
    world.pass_time(2)
    for name in ("a", "b", "c"):
        world.declare(model(name))
    for name in ("a", "b"):
        world.request(by_revision(name))
        world.settle()
        world.pass_time(1)
    world.send(ev.EnsureLoaded(RevisionId("c")))  # a wish: it gives way to a model that is asked for again
    assert state_of(world, A) is CopyState.WITHDRAWING
    return world


def state_of(world: World, revision: RevisionId) -> CopyState:
    view = world.core.model(revision)
    assert view is not None
    (copy,) = view.copies
    return copy.state


def test_a_copy_recalled_and_evicted_again_in_one_step_is_acknowledged_once() -> None:
    world = full_world()
    world.send(ev.EnsureLoaded(RevisionId("a"), last_used=1.0))  # an old use: recalled, and the coldest again
    world.acknowledge()
    world.settle()
    view = world.core.model(RevisionId("c"))
    assert view is not None
    assert [copy.state for copy in view.copies] == [CopyState.LOADED]


def test_a_copy_withdrawn_again_waits_for_the_later_acknowledgement() -> None:
    world = full_world()
    first = world.version
    world.send(ev.ModelRemoved(RevisionId("c")))
    world.request(by_revision("a"))
    assert state_of(world, A) is CopyState.LOADED
    world.send(ev.UnloadRequested(A))
    assert world.version > first + 1
    world.send(ev.RoutesAcknowledged(first))
    assert state_of(world, A) is CopyState.WITHDRAWING
    world.acknowledge()
    assert state_of(world, A) is CopyState.DRAINING


def test_a_publication_survives_an_error_in_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    world = full_world()
    before = world.version

    def broken(_state: State, _copy: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(core_module, "acknowledged", broken)
        world.core._state.routes.acknowledge(before)
        with pytest.raises(RuntimeError, match="a defect"):  # the step publishes first, then it breaks
            world.core.handle(ev.CopyMissing(P1, B), world.now)
    published = [action for action in world.core.handle(ev.Tick(), world.now) if isinstance(action, PublishRoutes)]
    assert [(action.version, action.changes) for action in published] == [(before + 1, {by_revision("b"): ()})]
