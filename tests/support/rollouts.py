"""Declares revisions of one endpoint, `digits`, to a mesh, and waits for what becomes of them."""

import json

from shoal.core.rollout.plan import Check, Metric, Pause, Plan, SetWeight, Strategy
from shoal.mesh.api import Declaration, ModelInfo
from waiting import until

ERRORS = Check("errors", Metric.ERROR_RATE, max=0.01)
CANARY = Plan(
    Strategy.CANARY,
    steps=(SetWeight(100), Pause(None), SetWeight(500), Pause(None)),
    checks=(ERRORS,),
)


def declaration(revision, plan=CANARY, *, unplaceable=None, by="", **model):
    path = json.dumps({"answer": revision, **model})
    return Declaration(
        "digits",
        f"digits__{revision}",
        ModelInfo("rt:test", path),
        None if unplaceable else "test",
        unplaceable,
        plan=plan,
        by=by,
        predictor=json.dumps({"model": {"version": revision}}),
    )


def phase(world):
    status = world.mesh.rollout("digits")
    return status.current.shown if status else None


def step(world):
    return world.mesh.rollout("digits").current.step


async def reach(world, wanted, at_step=None):
    await until(lambda: phase(world) == getattr(wanted, "value", wanted) and at_step in (None, step(world)))


async def serving(world, revision):
    await until(lambda: world.mesh.endpoint("digits").active == f"digits__{revision}")
