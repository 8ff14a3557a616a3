"""The engine when something breaks: what was decided is carried out all the same, and the defect is seen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from shoal.core import core as core_module
from shoal.core.actions import PublishRoutes
from shoal.core.core import Core
from shoal.core.events import (
    EndpointDeclared,
    LoadSucceeded,
    ModelDeclared,
    PodReported,
    RequestWaiting,
    RoutesAcknowledged,
    UnloadRequested,
)
from shoal.core.state import State
from shoal.core.types import EndpointName, PodId, RevisionId, RouteKey, Ticket
from shoal.mesh.engine.engine import Engine
from shoal.registry.protocol import FencedError
from support.core import model, pod
from waiting import until

P1, A = PodId("p1"), RevisionId("a")


class Hands:
    """An executor that only remembers; `broken` names what it cannot do."""

    def __init__(self, broken: str = "") -> None:
        self.did: list[object] = []
        self.broken = broken

    def __getattr__(self, name: str):
        def do(*given: object) -> None:
            if name == self.broken:
                raise RuntimeError(f"cannot {name}")
            self.did.append((name, *given))

        return do

    async def persist(self, actions: object) -> None:
        self.did.append(("persist", actions))

    def published(self) -> list[PublishRoutes]:
        return [given[1] for given in self.did if given[0] == "publish"]


@contextlib.asynccontextmanager
async def running(hands: Hands) -> AsyncIterator[Engine]:
    engine = Engine(Core())
    task = asyncio.create_task(engine.run(hands))
    try:
        yield engine
    finally:
        task.cancel()
        await asyncio.wait([task])


async def loading(engine: Engine) -> None:
    """A pod that loads `a`."""
    await engine.apply(PodReported(pod(), incarnation="1"))
    await engine.apply(ModelDeclared(model("a")))
    await engine.apply(RequestWaiting(Ticket(1), RouteKey("a", is_revision=True)))


async def test_a_request_is_under_way_at_its_copy_before_that_is_drained() -> None:
    hands = Hands()
    async with running(hands) as engine:
        await engine.apply(PodReported(pod(), incarnation="1"))
        await engine.apply(ModelDeclared(model("a")))
        asked = asyncio.create_task(
            engine.copy_for(
                RouteKey("a", is_revision=True),
                frozenset(),
                10.0,
                lambda forward: hands.did.append(("chosen", forward)),
            )
        )

        async def begun() -> bool:
            return ("load", P1, A) in hands.did

        await until(begun, "the load starts")
        for event in (LoadSucceeded(P1, A, 10), UnloadRequested(A), RoutesAcknowledged(99)):
            engine.submit(event)
        forward = await asked
        assert [given for given in hands.did if given[0] in ("chosen", "drain")] == [
            ("chosen", forward),
            ("drain", P1, A),
        ]


async def test_routes_of_a_step_that_broke_reach_the_gateways_and_the_defect_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hands = Hands()
    async with running(hands) as engine:
        told: list[str] = []
        engine.faults.listen(lambda fault: told.append(fault.message))
        await loading(engine)
        real = core_module.look_at_pod
        calls = 0

        def broken(state: State, looked_at: PodId) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                return real(state, looked_at)
            raise KeyError("a defect")

        await engine.apply(LoadSucceeded(P1, A, 30))
        assert len(hands.published()) == 1
        with monkeypatch.context() as patch:
            patch.setattr(core_module, "look_at_pod", broken)
            state = engine.core._state
            state.routes.acknowledge(1)
            state.pods[P1].draining = True  # its copy goes: routes are published, and after that the step breaks
            state.dirty_pods[P1] = None
            with pytest.raises(KeyError):
                await engine.apply(RoutesAcknowledged(1))

        async def second() -> PublishRoutes | None:
            return hands.published()[1] if len(hands.published()) > 1 else None

        assert (await until(second, "a second publication")).changes == {RouteKey("a", is_revision=True): ()}
        assert told == ["RoutesAcknowledged broke the core: KeyError: 'a defect'"]
        assert engine.faults.count == 1


async def test_an_action_that_cannot_be_carried_out_does_not_take_the_others_with_it() -> None:
    hands = Hands()
    async with running(hands) as engine:
        await loading(engine)
        await engine.apply(ModelDeclared(model("b")))
        await engine.apply(RequestWaiting(Ticket(2), RouteKey("b", is_revision=True)))
        hands.broken = "load"
        await engine.apply(LoadSucceeded(P1, A, 30))  # the same step loads `b` and publishes `a`
        assert len(hands.published()) == 1
        assert engine.faults.last is not None
        assert engine.faults.last.message == "Load could not be carried out: RuntimeError: cannot load"


async def test_what_several_events_in_a_row_change_is_made_durable_together_before_anything_else() -> None:
    hands = Hands()
    async with running(hands) as engine:
        await loading(engine)
        hands.did.clear()
        declared = (EndpointDeclared(EndpointName(f"e{number}"), A) for number in range(5))
        await asyncio.gather(*map(engine.apply, declared), engine.apply(LoadSucceeded(P1, A, 30)))
        kinds = [did[0] for did in hands.did]
        assert kinds.count("persist") == 1
        assert [action.name for action in hands.did[0][1]] == [f"e{number}" for number in range(5)]
        assert "publish" in kinds


class Deposed(Hands):
    """An executor whose registry has another leader."""

    async def persist(self, actions: object) -> None:
        await super().persist(actions)
        raise FencedError("term 1 writes, but term 2 was elected")


async def test_who_is_fenced_commands_nothing_any_more_and_says_so_to_whoever_waits() -> None:
    hands = Deposed()
    async with running(hands) as engine:
        await loading(engine)
        hands.did.clear()
        events = (EndpointDeclared(EndpointName("e"), A), LoadSucceeded(P1, A, 30))
        told = await asyncio.gather(*map(engine.apply, events), return_exceptions=True)
        assert [type(error) for error in told] == [FencedError, FencedError]
        with pytest.raises(FencedError, match="term 2 was elected"):
            await engine.apply(UnloadRequested(A))
        assert [did[0] for did in hands.did] == ["persist"]


async def test_who_stands_down_commands_nothing_any_more() -> None:
    hands = Hands()
    async with running(hands) as engine:
        await engine.apply(PodReported(pod(), incarnation="1"))
        engine.stand_down(FencedError("the term is over"))
        with pytest.raises(FencedError, match="the term is over"):
            await engine.apply(EndpointDeclared(EndpointName("e"), A))
        assert [did for did in hands.did if did[0] == "persist"] == []
