"""What every election must do, seen by the commits of those who were elected."""

from __future__ import annotations

import asyncio

import pytest

from registry.conftest import Process, Processes
from shoal.registry.protocol import FencedError, Put, Record


async def test_every_election_has_a_larger_term_and_ends_the_one_before(leader: Process):
    term = await leader.election.campaign()
    assert 0 < leader.term < term
    with pytest.raises(FencedError, match=f"term {leader.term} writes, but term {term} was elected"):
        await leader.registry.commit([Put("k", b"")], leader.term)
    await leader.registry.commit([Put("k", b"new")], term)
    assert await leader.registry.list("") == (Record("k", b"new"),)


async def test_a_term_outlives_the_process_that_won_it(processes: Processes, leader: Process):
    await leader.election.resign()
    await leader.registry.close()
    assert (await processes.start()).term > leader.term


async def test_nobody_is_elected_until_the_leader_resigns_and_then_another_is_at_once(
    processes: Processes, leader: Process
):
    order = []

    async def rival() -> Process:
        process = await processes.start()
        order.append("elected")
        return process

    rivals = asyncio.create_task(rival())
    for n in range(50):
        await leader.registry.commit([Put("k", str(n).encode())], leader.term)
    order.append("resigned")
    await leader.election.resign()
    successor = await rivals
    assert order == ["resigned", "elected"]
    assert successor.term > leader.term
    assert await successor.registry.list("") == (Record("k", b"49"),)


async def test_who_wakes_after_another_was_elected_can_change_nothing_and_is_told(
    processes: Processes, leader: Process
):
    await leader.registry.commit([Put("k", b"old")], leader.term)
    await leader.election.resign()
    successor = await processes.start()
    await successor.registry.commit([Put("k", b"new")], successor.term)
    with pytest.raises(FencedError, match=f"term {leader.term} writes, but term {successor.term} was elected"):
        await leader.registry.commit([Put("k", b"late"), Put("more", b"")], leader.term)
    await leader.election.lost()
    assert await successor.registry.list("") == (Record("k", b"new"),)
    await successor.registry.commit([Put("k", b"newer")], successor.term)


async def test_a_term_that_is_not_over_is_not_lost(leader: Process):
    old = leader.term
    term = await leader.election.campaign()
    lost = asyncio.create_task(leader.election.lost())
    with pytest.raises(FencedError):
        await leader.registry.commit([Put("k", b"")], old)
    await leader.registry.commit([Put("k", b"")], term)
    assert not lost.done()
    lost.cancel()


async def test_who_resigned_can_be_elected_again(leader: Process):
    await leader.election.resign()
    await leader.election.resign()
    term = await leader.election.campaign()
    assert term > leader.term
    await leader.registry.commit([Put("k", b"")], term)
