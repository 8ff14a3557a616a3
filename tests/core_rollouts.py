"""An endpoint `a` in a rollout from `a-1` to `a-2`, for tests of rollouts as the core decides them."""

from __future__ import annotations

from shoal.core import events as ev
from shoal.core.rollout.measure import Observation, latency_bucket
from shoal.core.rollout.plan import Analyse, Check, Metric, Pause, Plan, SetWeight, Strategy
from shoal.core.rollout.record import Rollout
from shoal.core.types import EndpointName, RevisionId, RouteKey
from support.core import World, model, pod

NAME = EndpointName("a")
KEY = RouteKey("a")
ERRORS = Check("errors", Metric.ERROR_RATE, max=0.01, min_samples=100)
CANARY = Plan(
    Strategy.CANARY,
    steps=(SetWeight(100), Pause(30.0), SetWeight(500), Analyse((ERRORS,), 60.0)),
    checks=(ERRORS,),
)


def served(*, pods: int = 2) -> World:
    """An endpoint `a` that serves `a-1` from one copy, and room for more."""
    world = World()
    for number in range(pods):
        world.join(pod(f"p{number + 1}"))
    world.declare(model("a-1"), load=True)
    world.send(ev.EndpointDeclared(NAME, RevisionId("a-1")))
    world.pass_time(5.0)
    world.settle()
    return world


def begun(plan: Plan = CANARY, *, pods: int = 2) -> World:
    """The same, and a rollout to `a-2` that has got as far as it gets at once."""
    world = served(pods=pods)
    world.declare(model("a-2"))
    world.roll_out("a", "a-2", plan, "a-1-rollout")
    world.settle()
    return world


def rollout(world: World) -> Rollout:
    view = world.core.rollout(NAME)
    assert view is not None
    return view.rollout


def shares(world: World) -> dict[str, int]:
    return {copy.revision: copy.weight for copy in world.table.get(KEY, ())}


def observe(world: World, revision: str, requests: int, errors: int = 0, ms: float = 5.0) -> None:
    seen = Observation(revision, requests, errors, ((latency_bucket(ms), requests),))
    world.send(ev.TrafficObserved(NAME, (seen,)))
