"""Leases by an injected clock, and the bounded change log."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.registry.changes import ChangeLog
from shoal.registry.leases import Leases
from shoal.registry.memory import MemoryRegistry
from shoal.registry.protocol import Change, CompactedError, Expect, Put, Record, RegistryUnavailableError
from shoal.registry.sqlite import SqliteRegistry


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def registry(request, tmp_path, clock):
    if request.param == "memory":
        registry = MemoryRegistry(clock)
    else:
        registry = await SqliteRegistry.open(tmp_path / "r.db", clock)
    yield registry
    await registry.close()


async def test_a_record_is_not_seen_once_its_lease_has_ended(registry, clock):
    lease = await registry.grant_lease(10)
    await registry.commit([Put("k", b"", lease)])
    clock.now += 9.9
    assert await registry.get("k") is not None
    clock.now += 0.1
    assert await registry.get("k") is None
    assert (await registry.list("")).records == ()


async def test_an_ended_lease_makes_room_for_the_next_owner(registry, clock):
    lease = await registry.grant_lease(10)
    await registry.commit([Put("leader", b"first", lease)], [Expect("leader", 0)])
    successor = await registry.grant_lease(10)
    clock.now += 5
    assert await registry.keep_alive(successor)
    clock.now += 6
    assert await registry.commit([Put("leader", b"second", successor)], [Expect("leader", 0)]) is not None
    assert (await registry.get("leader")).value == b"second"


async def test_keeping_alive_starts_the_time_anew_but_does_not_revive(registry, clock):
    lease = await registry.grant_lease(10)
    for _ in range(5):
        clock.now += 9
        assert await registry.keep_alive(lease)
    clock.now += 11
    assert not await registry.keep_alive(lease)


async def test_the_reaper_ends_leases_nobody_looks_at(registry, clock):
    lease = await registry.grant_lease(10)
    revision = await registry.commit([Put("k", b"", lease)])
    async with registry.watch("", revision) as changes:
        clock.now += 11
        assert await anext(changes) == (Change("k", None, revision + 1),)


async def test_a_watch_that_falls_behind_is_told_to_list_again():
    log = ChangeLog(10, kept_changes=3)
    async with log.watch("", 10) as slow, log.watch("", 12) as quick:
        for revision in range(11, 16):
            log.append((Change("k", Record("k", b"", revision), revision),))
        with pytest.raises(CompactedError):
            await anext(slow)
        assert [(await anext(quick))[0].revision for _ in range(3)] == [13, 14, 15]


async def test_the_change_log_is_bounded_by_bytes_too():
    log = ChangeLog(0, kept_bytes=100)
    for revision in range(1, 4):
        log.append((Change("k", Record("k", bytes(60), revision), revision),))
    async with log.watch("", 1) as old, log.watch("", 2) as new:
        with pytest.raises(CompactedError):
            await anext(old)
        assert (await anext(new))[0].revision == 3


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "renew", "drop"]), st.integers(1, 5), st.floats(0, 10), st.floats(0, 5))
    )
)
def test_leases_end_when_their_newest_time_is_over(steps):
    leases, model, now = Leases(), {}, 0.0
    for what, lease, seconds, passed in steps:
        now += passed
        if what == "start":
            leases.start(lease, seconds, now)
            model[lease] = (seconds, now + seconds)
        elif what == "renew":
            assert leases.renew(lease, now) == (lease in model)
            if lease in model:
                model[lease] = (model[lease][0], now + model[lease][0])
        else:
            assert leases.drop(lease) == (model.pop(lease, None) is not None)
        ended = leases.overdue(now)
        assert sorted(ended) == sorted(name for name, (_, end) in model.items() if end <= now)
        assert [model[name][1] for name in ended] == sorted(model[name][1] for name in ended)
        assert len(leases) == len(model)


class FailingOnce:
    """An engine whose next end of a lease fails, as on a full disk."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.failures = 1

    def write(self, write):
        if write.end is not None and self.failures:
            self.failures -= 1
            failed = asyncio.get_running_loop().create_future()
            failed.set_exception(RegistryUnavailableError("the disk is full"))
            return failed
        return self.engine.write(write)

    def __getattr__(self, name):
        return getattr(self.engine, name)


async def test_an_end_that_could_not_be_written_is_tried_again_and_never_forgotten(registry, clock):
    lease = await registry.grant_lease(10)
    await registry.commit([Put("k", b"", lease)])
    registry._engine = FailingOnce(registry._engine)
    clock.now += 11
    with pytest.raises(RegistryUnavailableError, match="full"):
        await registry.get("k")
    assert await registry.get("k") is None
    assert not await registry.keep_alive(lease)
