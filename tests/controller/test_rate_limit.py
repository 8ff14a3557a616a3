import asyncio

from shoal.controller.rate_limit import RateLimit


async def test_a_burst_passes_at_once_and_the_rest_at_the_pace():
    pace = RateLimit(per_second=100, burst=3)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for _ in range(3):
        await pace.turn()
    assert loop.time() - start < 0.5
    for _ in range(5):
        await pace.turn()
    assert loop.time() - start >= 0.04


async def test_a_turn_that_was_reserved_is_nobody_elses():
    pace = RateLimit(per_second=1, burst=2)
    assert [pace.reserve() for _ in range(2)] == [0.0, 0.0]
    first, second = pace.reserve(), pace.reserve()
    assert 0.5 < first <= 1.0
    assert 1.5 < second <= 2.0
