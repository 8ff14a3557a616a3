"""Rollouts under traffic through a real gateway: what users see, and how fast a bad revision is gone."""

import asyncio
import time
from collections import Counter
from dataclasses import replace

import grpc
import pytest

from shoal.core.rollout.plan import Pause, Plan, SetShadow, SetWeight, Strategy
from shoal.core.rollout.record import PAUSED, Phase, Verb
from support.rollouts import CANARY, declaration, reach, serving
from waiting import until

pytestmark = pytest.mark.server
CLIENTS = 8


class Traffic:
    """Clients that ask for `digits` all the time, and what became of it."""

    def __init__(self, client):
        self.client = client
        self.answers = Counter()
        self.errors = Counter()

    async def ask(self):
        while True:
            try:
                self.answers[await self.client.infer("digits")] += 1
            except grpc.aio.AioRpcError as error:
                self.errors[error.code().name, error.details()] += 1
            await asyncio.sleep(0.02)

    async def share(self, revision, requests=600):
        """The part of the next requests that a revision answers."""
        before = Counter(self.answers)
        await until(lambda: (self.answers - before).total() >= requests, seconds=30)
        seen = self.answers - before
        return seen[revision] / seen.total()


@pytest.fixture
async def traffic(world, gateway):
    await world.mesh.declare(declaration("v1"))
    assert await gateway.infer("digits") == "v1"
    traffic = Traffic(gateway)
    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(traffic.ask()) for _ in range(CLIENTS)]
        yield traffic
        for client in clients:
            client.cancel()


async def test_requests_are_divided_as_declared_and_none_fails(world, traffic):
    await world.mesh.declare(declaration("v2"))
    await reach(world, PAUSED, 1)
    assert await traffic.share("v2") == pytest.approx(0.1, abs=0.05)
    await world.mesh.steer("digits", Verb.RESUME)
    await reach(world, PAUSED, 3)
    assert await traffic.share("v2") == pytest.approx(0.5, abs=0.08)
    status = world.mesh.rollout("digits")
    await until(lambda: status.target_window.requests > 200)
    assert status.target_window.errors == status.active_window.errors == 0
    assert 0 < status.target_window.latency(0.99) < 1000

    await world.mesh.steer("digits", Verb.PROMOTE)
    await serving(world, "v2")
    assert await traffic.share("v2", 100) > 0.9
    await world.mesh.declare(declaration("v1"))
    await serving(world, "v1")
    assert await traffic.share("v1", 100) > 0.9
    assert not traffic.errors


async def test_users_notice_nothing_of_a_canary_that_errs_and_it_is_gone_soon(world, traffic):
    steps = (SetWeight(500), Pause(60.0))
    await world.mesh.declare(declaration("v2", plan=replace(CANARY, steps=steps), error="wrong all the time"))
    await reach(world, Phase.PROGRESSING)
    began = time.monotonic()
    await reach(world, Phase.ROLLED_BACK)
    assert time.monotonic() - began < 5
    assert "errors" in world.mesh.rollout("digits").current.reason
    assert await traffic.share("v1", 100) == 1
    assert not traffic.errors
    assert set(traffic.answers) == {"v1"}


async def test_a_shadow_answers_nobody_and_is_compared(world, traffic):
    plan = Plan(Strategy.SHADOW, steps=(SetShadow(500), Pause(None)))
    await world.mesh.declare(declaration("v2", plan=plan))
    await reach(world, PAUSED)
    await until(lambda: world.mesh.rollout("digits").target_window.compared >= 50, seconds=30)
    window = world.mesh.rollout("digits").target_window
    assert window.disagreed == window.compared  # each model says its own name
    assert set(traffic.answers) == {"v1"}
    assert not traffic.errors
    await world.mesh.steer("digits", Verb.PROMOTE)
    await serving(world, "v2")
    assert await traffic.share("v2", 100) > 0.9
    assert not traffic.errors
