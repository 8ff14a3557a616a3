"""A pod that is back is not taken for lost by a timer of before."""

from __future__ import annotations

import asyncio

from shoal.core.events import Event, PodLeft, PodPressed
from shoal.core.types import PodId, PodSpec, RuntimeName
from shoal.mesh.api import PodEndpoint
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods import PodLink
from shoal_protos.adapter import adapter_pb2 as adapter

POD = PodEndpoint(PodId("p1"), RuntimeName("r"), "127.0.0.1", 9, 9)


async def test_a_pod_that_is_back_does_not_leave_by_the_timer_of_an_earlier_loss() -> None:
    """Adapter and server are killed: the adapter's loss sets a timer, a request that fails finds the server gone."""
    told: list[Event] = []
    link = PodLink(POD, told.append, lambda _: {}, Metrics(), lost_after=0.05, now=lambda: 0.0)
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
    link = PodLink(POD, told.append, lambda _: {}, Metrics(), lost_after=60.0, now=lambda: 0.0)

    def says(pressure: float, incarnation: str = "1") -> None:
        link._ready(adapter.State(status=adapter.State.READY, cpu_pressure=pressure, incarnation=incarnation))

    for pressure in (0.0, 0.5, 0.5, 0.25):
        says(pressure)
    link._leave()
    says(0.25, "2")
    pressed = [event.cpu_pressure for event in told if isinstance(event, PodPressed)]
    assert pressed == [0.5, 0.25, 0.25]
    await link._close()
