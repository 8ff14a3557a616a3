import asyncio

import pytest

from shoal.controller.queue import WorkQueue


async def _run(queue, until):
    task = asyncio.create_task(queue.run())
    try:
        await asyncio.wait_for(until.wait(), 10)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_key_added_many_times_is_worked_on_once():
    seen, done = [], asyncio.Event()

    async def work(key):
        seen.append(key)
        if key == ("last",):
            done.set()

    queue = WorkQueue(work, workers=1)
    for _ in range(5):
        queue.add(("a",))
    queue.add(("last",))
    await _run(queue, done)
    assert seen == [("a",), ("last",)]


async def test_a_key_added_while_it_is_worked_on_is_worked_on_again_and_never_twice_at_once():
    running, most, runs, done = 0, 0, 0, asyncio.Event()

    async def work(key):
        nonlocal running, most, runs
        running, runs = running + 1, runs + 1
        most = max(most, running)
        if runs == 1:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0)
        running -= 1
        if runs == 2:
            done.set()

    queue = WorkQueue(work, workers=4, spacing=0.0)
    queue.add(("a",))
    await _run(queue, done)
    assert (runs, most) == (2, 1)


async def test_a_failure_is_tried_again_and_harms_no_other_key():
    tries, done = [], asyncio.Event()

    async def work(key):
        tries.append(key)
        if key == ("bad",) and tries.count(key) < 3:
            raise ValueError("not yet")
        if key == ("bad",):
            done.set()

    queue = WorkQueue(work, first_retry=0.001, spacing=0.0)
    queue.add(("bad",))
    queue.add(("good",))
    await _run(queue, done)
    assert (tries.count(("bad",)), tries.count(("good",))) == (3, 1)


async def test_calls_for_one_key_keep_their_distance():
    times, done = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    async def work(key):
        times.append(loop.time())
        if len(times) == 2:
            done.set()
        else:
            queue.add(key)

    queue = WorkQueue(work, spacing=0.05)
    queue.add(("a",))
    await _run(queue, done)
    assert times[1] - times[0] >= 0.049


async def test_what_is_due_much_later_is_done_soon_when_it_is_added():
    done = asyncio.Event()

    async def work(key):
        done.set()

    queue = WorkQueue(work)
    queue.add_after(("a",), 3600)
    queue.add(("a",))
    await _run(queue, done)


async def test_what_failed_and_would_wait_long_is_tried_soon_when_it_is_added():
    tries, done = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    async def work(key):
        tries.append(key)
        if len(tries) == 1:
            queue.add(key)
            raise ValueError("mended while it was tried")
        if len(tries) == 2:
            loop.call_soon(lambda: loop.call_soon(queue.add, key))
            raise ValueError("mended afterwards")
        done.set()

    queue = WorkQueue(work, first_retry=3600, last_retry=3600, spacing=0.0, patience=0.01)
    queue.add(("a",))
    await _run(queue, done)
    assert len(tries) == 3


async def test_the_earlier_of_two_appointments_counts():
    done = asyncio.Event()

    async def work(key):
        done.set()

    queue = WorkQueue(work)
    queue.add_after(("a",), 3600)
    queue.add_after(("a",), 0.001)
    queue.add_after(("a",), 3600)
    await _run(queue, done)
