"""When a pod counts as lost, when as back, and what is told of it meanwhile."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from shoal.core.events import Event, PodLeft, PodPressed, PodReported
from shoal.core.types import PodId, PodSpec, RuntimeName
from shoal.mesh.api import PodEndpoint
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods import link as pods
from shoal.mesh.pods.link import PodLink
from shoal_protos.adapter import adapter_pb2 as adapter

POD = PodEndpoint(PodId("p1"), RuntimeName("r"), "127.0.0.1", 9, 9)


def linked(
    pod: PodEndpoint,
    submit: Callable[[Event], None],
    judged: Callable[[str], None] = lambda _: None,
    *,
    lost_after: float = 60.0,
) -> PodLink:
    return PodLink(pod, submit, lambda _: {}, Metrics(), judged=judged, lost_after=lost_after, now=lambda: 0.0)


async def test_a_pod_that_is_back_does_not_leave_by_the_timer_of_an_earlier_loss() -> None:
    """Adapter and server are killed: the adapter's loss sets a timer, a request that fails finds the server gone."""
    told: list[Event] = []
    link = linked(POD, told.append, lost_after=0.05)
    link._report("1", PodSpec(POD.id, POD.runtime, 100), ())
    link._lost_timer = asyncio.get_running_loop().call_later(0.05, link._leave)
    assert not await link.check()
    link._report("2", PodSpec(POD.id, POD.runtime, 100), ())
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, passed.set)
    await passed.wait()
    assert [event for event in told if isinstance(event, PodLeft)] == [PodLeft(POD.id)]
    await link._close()


async def test_the_pressure_on_a_pod_s_machine_is_told_once_for_each_change_and_again_when_the_pod_is_back() -> None:
    told: list[Event] = []
    link = linked(POD, told.append)

    def says(pressure: float, incarnation: str = "1") -> None:
        link._ready(adapter.State(status=adapter.State.READY, cpu_pressure=pressure, incarnation=incarnation))

    for pressure in (0.0, 0.5, 0.5, 0.25):
        says(pressure)
    link._leave()
    says(0.25, "2")
    pressed = [event.cpu_pressure for event in told if isinstance(event, PodPressed)]
    assert pressed == [0.5, 0.25, 0.25]
    await link._close()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that accepts no connections before it listens."""
    monkeypatch.setattr(pods, "WORD_TIMEOUT", 0.01)
    monkeypatch.setattr(pods, "RECONNECT_AFTER", 0.01)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server


async def test_a_server_that_accepts_connections_again_is_back_though_its_adapter_says_nothing_new(
    busy: socket.socket,
) -> None:
    told: asyncio.Queue[Event] = asyncio.Queue()
    pod = PodEndpoint(PodId("p1"), RuntimeName("r"), "127.0.0.1", 9, busy.getsockname()[1])
    link = linked(pod, told.put_nowait)
    link._heard(adapter.State(status=adapter.State.READY, capacity_bytes=100, incarnation="1"))
    assert isinstance(await told.get(), PodReported)
    assert not await link.check()
    assert await told.get() == PodLeft(pod.id)
    busy.listen()
    back = await told.get()
    assert isinstance(back, PodReported)
    assert (back.incarnation, back.pod.capacity_bytes) == ("1", 100)
    await link._close()


@pytest.mark.parametrize("word", ["not ready", "away"])
async def test_a_server_is_not_looked_for_once_its_adapter_does_not_say_any_more_that_it_is_ready(
    busy: socket.socket, word: str
) -> None:
    told: list[Event] = []
    pod = PodEndpoint(PodId("p1"), RuntimeName("r"), "127.0.0.1", 9, busy.getsockname()[1])
    link = linked(pod, told.append)
    link._heard(adapter.State(status=adapter.State.READY, incarnation="1"))
    assert not await link.check()
    if word == "away":
        await link._disconnected()
    else:
        link._heard(adapter.State(status=adapter.State.FAILING))
    busy.listen()
    assert link._return is not None
    await link._return
    assert isinstance(told[-1], PodLeft)
    await link._close()


async def test_a_server_too_busy_to_accept_connections_for_a_moment_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pods, "WORD_TIMEOUT", 0.01)
    told: list[Event] = []
    link = linked(POD, told.append)
    link._heard(adapter.State(status=adapter.State.READY, incarnation="1"))
    looks = iter((False, True))

    async def serving() -> bool:
        return next(looks)

    monkeypatch.setattr(link, "serving", serving)
    assert await link.check()
    assert not any(isinstance(event, PodLeft) for event in told)
    await link._close()


async def test_whether_a_pod_can_be_used_is_told_and_why_not(busy: socket.socket) -> None:
    judged: asyncio.Queue[str] = asyncio.Queue()
    port = busy.getsockname()[1]
    pod = PodEndpoint(PodId("p1"), RuntimeName("r"), "127.0.0.1", port, port)
    link = linked(pod, lambda _: None, judged.put_nowait)
    following = asyncio.create_task(link.run())
    assert await judged.get() == f"its adapter does not answer at 127.0.0.1:{port}"
    following.cancel()
    await asyncio.wait([following])
    while not judged.empty():
        judged.get_nowait()
    link._heard(adapter.State(status=adapter.State.STARTING, message="no licence"))
    assert judged.get_nowait() == "its adapter says: no licence"
    link._heard(adapter.State(status=adapter.State.READY, incarnation="1"))
    assert judged.get_nowait() == ""
    await link.check()
    assert judged.get_nowait() == f"its model server accepts no connections at 127.0.0.1:{port}"
    await link._close()
