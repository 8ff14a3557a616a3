"""Operations on one model take turns and clean up, whatever becomes of those who asked."""

import asyncio

import pytest

from shoal_runtime import lanes as lanes_module
from shoal_runtime.errors import BusyError, NotReadyError
from shoal_runtime.lanes import Lanes, uninterrupted


async def test_one_models_operations_never_overlap_others_do() -> None:
    lanes, log, gate, begun = Lanes(), [], asyncio.Event(), asyncio.Event()

    async def work(name: str, wait: bool) -> None:
        log.append(f"{name} begins")
        begun.set()
        if wait:
            await gate.wait()
        log.append(f"{name} ends")

    first = asyncio.ensure_future(lanes.run("a", lambda: work("a1", True)))
    second = asyncio.ensure_future(lanes.run("a", lambda: work("a2", False)))
    await begun.wait()
    await lanes.run("b", lambda: work("b", False))
    assert log == ["a1 begins", "b begins", "b ends"]
    gate.set()
    await asyncio.gather(first, second)
    assert log[3:] == ["a1 ends", "a2 begins", "a2 ends"]


async def test_a_cancelled_operation_keeps_its_lane_until_it_has_cleaned_up() -> None:
    lanes, log, gate = Lanes(), [], asyncio.Event()

    async def clean_up() -> None:
        await gate.wait()
        log.append("cleaned")

    async def load() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await uninterrupted(clean_up())
            raise

    async def unload() -> None:
        log.append("unloaded")

    loading = asyncio.ensure_future(lanes.run("a", load))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    unloading = asyncio.ensure_future(lanes.run("a", unload))
    await asyncio.sleep(0)
    assert log == []
    gate.set()
    await unloading
    assert log == ["cleaned", "unloaded"]


async def test_emptying_interrupts_everything_with_a_reason() -> None:
    lanes = Lanes()
    waiting = [asyncio.ensure_future(lanes.run(name, asyncio.Event().wait)) for name in "aab"]
    await asyncio.sleep(0)
    await lanes.empty()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, NotReadyError)


async def test_no_more_is_accepted_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "MAX_WAITING", 2)
    lanes = Lanes()
    waiting = [asyncio.ensure_future(lanes.run(name, asyncio.Event().wait)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(BusyError, match="2 operations"):
        await lanes.run("c", asyncio.Event().wait)
    await lanes.empty()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_uninterrupted_work_ends_before_its_cancellation_is_raised() -> None:
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(True)

    task = asyncio.ensure_future(uninterrupted(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]
