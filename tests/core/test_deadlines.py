"""The deadline of a rollout holds wherever it stands, whatever its strategy; waiting for people is not counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shoal.core import events as ev
from shoal.core.rollout.plan import IMMEDIATE, Otherwise, Plan, SetWeight, Strategy
from shoal.core.rollout.record import PAUSED, Phase, Rollout, Verb
from shoal.core.types import EndpointName, PodId, RevisionId
from support.core import World, model, pod

NAME = EndpointName("a")
P1 = PodId("p1")
OLD, NEW = RevisionId("a-1"), RevisionId("a-2")
SHORT = replace(IMMEDIATE, deadline=100.0)
CANARY = Plan(Strategy.CANARY, steps=(SetWeight(100),), deadline=100.0)


def begun(plan: Plan) -> World:
    """`a-1` serves, and a rollout to `a-2` has its first load under way."""
    world = World()
    world.join(pod("p1"))
    world.declare(model(OLD), load=True)
    world.send(ev.EndpointDeclared(NAME, OLD))
    world.pass_time(5)
    world.settle()
    world.declare(model(NEW))
    world.roll_out(NAME, NEW, plan, "the-rollout")
    return world


def record(world: World) -> Rollout:
    view = world.core.rollout(NAME)
    assert view is not None
    return view.rollout


@pytest.mark.parametrize("plan", [SHORT, CANARY], ids=["immediate", "canary"])
def test_a_rollout_whose_target_does_not_load_is_rolled_back_at_its_deadline(plan: Plan) -> None:
    world = begun(plan)
    world.pass_time(99)
    assert record(world).shown == Phase.LOADING.value
    assert world.core.next_due(world.now) == record(world).started + 100
    world.pass_time(1)
    assert record(world).phase is Phase.ROLLED_BACK
    assert record(world).reason == "not done after 100 s, its deadline"
    assert world.store[NAME] == (OLD, NEW)


def test_a_promoted_rollout_whose_target_was_lost_is_rolled_back_at_its_deadline() -> None:
    world = begun(replace(CANARY, steps=()))
    world.steer(NAME, Verb.PROMOTE)
    assert record(world).shown == Phase.PROMOTING.value
    world.pass_time(100)
    assert record(world).phase is Phase.ROLLED_BACK


def test_the_deadline_pauses_a_promotion_where_that_is_asked_for_and_resuming_goes_on_with_it() -> None:
    world = begun(replace(SHORT, on_deadline=Otherwise.PAUSE))
    world.steer(NAME, Verb.PROMOTE)
    world.pass_time(100)
    assert record(world).shown == PAUSED
    world.settle()
    assert world.store[NAME] == (OLD, NEW)
    world.steer(NAME, Verb.RESUME)
    world.settle()
    assert record(world).phase is Phase.SUCCEEDED
    assert world.store[NAME] == (NEW, NEW)


def test_a_paused_immediate_rollout_does_not_take_over_until_it_is_resumed() -> None:
    world = begun(SHORT)
    world.steer(NAME, Verb.PAUSE)
    world.settle()
    assert world.store[NAME] == (OLD, NEW)
    world.pass_time(1000)
    assert record(world).shown == PAUSED
    world.steer(NAME, Verb.RESUME)
    world.settle()
    assert record(world).phase is Phase.SUCCEEDED
    assert world.store[NAME] == (NEW, NEW)
