"""Changes with a name in common never overlap, others do, and nobody is passed over."""

import asyncio

import pytest

from shoal.mesh.state.turns import Turns


class Log:
    def __init__(self):
        self.turns = Turns()
        self.inside = []
        self.order = []

    async def change(self, label, *names):
        async with self.turns.of(*names) if names else self.turns.alone():
            self.inside.append(label)
            self.order.append(label)
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            finally:
                self.inside.remove(label)

    def start(self, label, *names):
        return asyncio.create_task(self.change(label, *names))


async def test_names_apart_go_on_together_and_common_ones_in_turn():
    log = Log()
    tasks = [log.start("ab", "a", "b"), log.start("cd", "c", "d"), log.start("bc", "b", "c")]
    await asyncio.sleep(0)
    assert log.inside == ["ab", "cd"]
    await asyncio.gather(*tasks)
    assert log.order == ["ab", "cd", "bc"]


async def test_alone_is_alone_and_not_passed():
    log = Log()
    tasks = [log.start("a", "a"), log.start("alone"), log.start("b", "b"), log.start("again")]
    await asyncio.sleep(0)
    assert log.inside == ["a"]  # b waits behind the one that wants to be alone
    seen = []
    while not all(task.done() for task in tasks):
        seen.append(tuple(log.inside))
        await asyncio.sleep(0)
    assert log.order == ["a", "alone", "b", "again"]
    assert max(len(inside) for inside in seen) == 1


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
async def test_whoever_gives_up_holds_nobody_up(steps):
    log = Log()
    first, given_up, last = log.start("a", "a"), log.start("alone"), log.start("also a", "a")
    for _ in range(steps):
        await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait_for(asyncio.gather(first, last), 5)
    await asyncio.gather(given_up, return_exceptions=True)
    assert log.order[-1] == "also a"
    await asyncio.wait_for(log.change("free"), 5)
