"""A mesh that dies between any two writes of a rollout comes back, and the rollout ends as declared, never between.

Everything durable is written in one go an endpoint, so the states found here are all a crash can leave behind.
"""

import json
from dataclasses import replace

import pytest

from shoal.core.rollout.plan import Pause, Plan, SetWeight, Strategy, WarmUp
from shoal.core.rollout.record import Phase
from shoal.mesh.serve import process
from shoal.registry.open import open_registry
from shoal.registry.protocol import Put
from shoal_protos import inference as oip
from support.rollouts import declaration, serving
from waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]
CANARY = Plan(
    Strategy.CANARY,
    steps=(SetWeight(100), Pause(0.05), SetWeight(500), Pause(0.05)),
    warm_up=WarmUp(requests=2, timeout=10),
)


@pytest.fixture
def states(monkeypatch):
    """What the registry held after each write, in order."""
    states = []

    async def recorded(url):
        registry, election = await open_registry(url)
        commit = registry.commit

        async def remember(operations, fence):
            await commit(operations, fence)
            states.append(await registry.list(""))

        monkeypatch.setattr(registry, "commit", remember)
        return registry, election

    monkeypatch.setattr(process, "open_registry", recorded)
    return states


async def sampled(_):
    """A request to warm up with."""
    return [oip.ModelInferRequest(id="warm-up").SerializeToString()]


async def start(world):
    await world.start_mesh()
    world.mesh.set_samples(sampled)


async def run(world, candidate):
    """Declare the first revision, then a candidate, until its rollout ended."""
    await start(world)
    await world.mesh.declare(declaration("v1", plan=CANARY))
    assert await world.client.infer("digits") == "v1"
    await world.mesh.declare(candidate)
    await until(lambda: (status := world.mesh.rollout("digits")) and not status.current.live)


async def come_back(world, candidate, records, url):
    """Start a mesh where another one died, and declare what is declared, as a controller does."""
    registry, election = await open_registry(url)
    await registry.commit([Put(record.key, record.value) for record in records], await election.campaign())
    await registry.close()
    world.registry = url
    await start(world)
    await world.mesh.declare(candidate)
    await until(lambda: (status := world.mesh.rollout("digits")) and not status.current.live)
    return world.mesh.rollout("digits").current


@pytest.mark.parametrize(
    ("model", "plan", "ends", "serves"),
    [
        ({}, CANARY, Phase.SUCCEEDED, "v2"),
        ({"fail": "no such file"}, CANARY, Phase.ROLLED_BACK, "v1"),
        ({"error": "cannot be warmed up"}, CANARY, Phase.ROLLED_BACK, "v1"),
        ({}, replace(CANARY, steps=(SetWeight(500), Pause(60.0)), deadline=0.5), Phase.ROLLED_BACK, "v1"),
    ],
    ids=["promoted", "does not load", "does not warm up", "too late"],
)
async def test_a_crash_after_any_write(world, states, tmp_path, model, plan, ends, serves):
    candidate = declaration("v2", plan=plan, **model)
    await world.start_pod("pod-1")
    await run(world, candidate)
    await world.stop_mesh()
    left = [records for records in states if any(record.key == "endpoints/digits" for record in records)]
    assert {phase_in(records) for records in left} >= {None, "Loading", ends.value}
    for number, records in enumerate(left):
        found = await come_back(world, candidate, records, f"sqlite:{tmp_path / f'{number}.db'}")
        assert (found.phase, found.weight) == (ends, 1000 if serves == "v2" else 0), f"after write {number}"
        await serving(world, serves)
        assert await world.client.infer("digits") == serves
        await world.stop_mesh()


def phase_in(records):
    """The phase of the rollout a crash left behind."""
    found = [json.loads(record.value)["rollout"]["phase"] for record in records if record.key == "rollouts/digits"]
    return found[0] if found else None
