"""What every registry must do."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.registry.open import open_registry
from shoal.registry.protocol import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    Delete,
    FencedError,
    InvalidRecordError,
    Put,
    Record,
    Registry,
    RegistryError,
    RegistryUnavailableError,
)

KEYS = st.sampled_from(["a", "a/1", "a/2", "b/1", "b/é", "b/\U0010ffff", "c"])
VALUES = st.binary(max_size=8)
RUNS = itertools.count()


@st.composite
def commits(draw):
    """Operations, and by how much the fence is off."""
    keys = draw(st.lists(KEYS, unique=True, max_size=4))
    operations = [Put(key, draw(VALUES)) if draw(st.booleans()) else Delete(key) for key in keys]
    return operations, draw(st.sampled_from([0, 0, 0, -1, 1]))


async def test_nothing_is_there_at_first(registry: Registry):
    assert await registry.list("") == ()


async def test_a_record_has_the_value_that_was_written_last(registry: Registry, term: int):
    await registry.commit([Put("k", b"one"), Put("other", b"")], term)
    await registry.commit([Put("k", b"two")], term)
    assert await registry.list("") == (Record("k", b"two"), Record("other", b""))
    await registry.commit([Delete("k"), Delete("never there")], term)
    assert await registry.list("") == (Record("other", b""),)


async def test_a_listing_is_sorted_and_ends_at_the_prefix(registry: Registry, term: int):
    keys = ["a", "a/", "a/1", "a/2", "a0", "b", "a/\U0010ffff"]
    await registry.commit([Put(key, key.encode()) for key in keys], term)
    assert [record.key for record in await registry.list("a/")] == ["a/", "a/1", "a/2", "a/\U0010ffff"]
    assert [record.key for record in await registry.list("")] == sorted(keys)


async def test_a_listing_is_one_snapshot(registry: Registry, term: int):
    async def write():
        for n in range(200):
            await registry.commit([Put(f"n/{key}", str(n).encode()) for key in range(5)], term)

    await registry.commit([Put(f"n/{key}", b"none") for key in range(5)], term)
    writer = asyncio.create_task(write())
    while not writer.done():
        assert len({record.value for record in await registry.list("n/")}) == 1
        await asyncio.sleep(0)
    await writer


async def test_commits_are_done_in_the_order_in_which_they_are_asked_for(registry: Registry, term: int):
    calls = [registry.commit([Put("k", str(n).encode()), Put(f"n/{n:03}", b"")], term) for n in range(200)]
    await asyncio.gather(*calls)
    assert await registry.list("k") == (Record("k", b"199"),)
    assert len(await registry.list("n/")) == 200


async def test_a_commit_with_another_fence_than_the_term_changes_nothing(registry: Registry, term: int):
    await registry.commit([Put("k", b"1")], term)
    for fence in (term - 1, term + 1):
        with pytest.raises(FencedError, match=f"term {fence} writes, but term {term} was elected"):
            await registry.commit([Put("k", b"2"), Put("new", b"")], fence)
        with pytest.raises(FencedError):
            await registry.commit([Delete("k")], fence)
    assert await registry.list("") == (Record("k", b"1"),)


async def test_a_rejected_commit_takes_no_other_with_it(registry: Registry, term: int):
    fences = [term, term - 1, term, term - 1, term]
    calls = (registry.commit([Put(f"{n}", b"")], fence) for n, fence in enumerate(fences))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        type(None), FencedError, type(None), FencedError, type(None)
    ]  # fmt: skip
    assert [record.key for record in await registry.list("")] == ["0", "2", "4"]


@pytest.mark.parametrize("key", ["", "nul\0", "\ud800", "x" * (MAX_KEY_BYTES + 1)])
async def test_impossible_keys_are_refused(registry: Registry, term: int, key: str):
    for operation in (Put(key, b""), Delete(key)):
        with pytest.raises(InvalidRecordError):
            await registry.commit([operation], term)
    if key:
        with pytest.raises(InvalidRecordError):
            await registry.list(key)


async def test_limits_and_repeated_keys_are_refused_and_nothing_is_written(registry: Registry, term: int):
    for operations in (
        [Put("a", b""), Put("big", bytes(MAX_VALUE_BYTES + 1))],
        [Put("a", b""), Delete("a")],
        [Put(f"a{n}", b"") for n in range(129)],
    ):
        with pytest.raises(InvalidRecordError):
            await registry.commit(operations, term)
    assert await registry.list("") == ()


async def test_the_largest_record_fits(registry: Registry, term: int):
    key, value = "k" * MAX_KEY_BYTES, bytes(MAX_VALUE_BYTES)
    await registry.commit([Put(key, value)], term)
    assert await registry.list(key) == (Record(key, value),)


async def test_a_closed_registry_says_so(registry: Registry, term: int):
    await registry.close()
    with pytest.raises(RegistryUnavailableError, match="closed"):
        await registry.list("k")
    with pytest.raises(RegistryUnavailableError, match="closed"):
        await registry.commit([Put("k", b"")], term)
    await registry.close()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(commits(), max_size=12))
async def test_it_behaves_as_a_dictionary(registry: Registry, term: int, script):
    # One registry serves all examples, hence a prefix for each.
    prefix = f"run{next(RUNS)}/"
    model: dict[str, bytes] = {}
    for operations, off in script:
        named = [Put(prefix + o.key, o.value) if isinstance(o, Put) else Delete(prefix + o.key) for o in operations]
        if off:
            with pytest.raises(FencedError):
                await registry.commit(named, term + off)
        else:
            await registry.commit(named, term)
            for operation in named:
                if isinstance(operation, Put):
                    model[operation.key] = operation.value
                else:
                    model.pop(operation.key, None)
        assert await registry.list(prefix) == tuple(Record(key, model[key]) for key in sorted(model))


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite:", "memory", "memory:x", "etcd://somewhere", "/a/path"])
async def test_an_unknown_url_is_refused_with_the_ones_there_are(url: str):
    with pytest.raises(RegistryError, match="use memory: or sqlite:PATH"):
        await open_registry(url)
