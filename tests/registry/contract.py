"""What every registry backend must do. A backend's test module subclasses `RegistryContract` and gives `registry`."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.registry.protocol import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    Delete,
    Expect,
    InvalidRecordError,
    Put,
    Record,
    Registry,
    RegistryUnavailableError,
)

KEYS = st.sampled_from(["a", "a/1", "a/2", "b/1", "b/é", "b/\U0010ffff", "c"])
VALUES = st.binary(max_size=8)
RUNS = itertools.count()


@st.composite
def commits(draw):
    """Operations, and for each expectation a key and whether it shall hold."""
    keys = draw(st.lists(KEYS, unique=True, max_size=4))
    operations = [Put(key, draw(VALUES)) if draw(st.booleans()) else Delete(key) for key in keys]
    expected = draw(st.dictionaries(KEYS, st.sampled_from(["right", "right", "right", "wrong"]), max_size=2))
    return operations, expected


class RegistryContract:
    """Tests of `shoal.registry.protocol.Registry`."""

    async def test_an_absent_key_has_no_record(self, registry: Registry):
        assert await registry.get("absent") is None
        assert (await registry.list("")).records == ()

    async def test_a_record_tells_its_value_and_the_revision_of_its_last_write(self, registry: Registry):
        first = await registry.commit([Put("k", b"one")])
        second = await registry.commit([Put("other", b"")])
        third = await registry.commit([Put("k", b"two")])
        assert first < second < third
        assert await registry.get("k") == Record("k", b"two", third)
        assert await registry.get("other") == Record("other", b"", second)

    async def test_a_listing_is_sorted_whole_and_ends_at_the_prefix(self, registry: Registry):
        keys = ["a", "a/", "a/1", "a/2", "a0", "b", "a/\U0010ffff"]
        revision = await registry.commit([Put(key, key.encode()) for key in keys])
        snapshot = await registry.list("a/")
        assert [record.key for record in snapshot.records] == ["a/", "a/1", "a/2", "a/\U0010ffff"]
        assert snapshot.revision == revision
        assert [record.key for record in (await registry.list("")).records] == sorted(keys)

    async def test_a_commit_with_a_wrong_expectation_does_nothing(self, registry: Registry):
        revision = await registry.commit([Put("k", b"1")])
        assert await registry.commit([Put("k", b"2"), Put("new", b"")], [Expect("k", 0)]) is None
        assert await registry.commit([Delete("k")], [Expect("k", revision), Expect("new", revision)]) is None
        assert (await registry.list("")).records == (Record("k", b"1", revision),)

    async def test_a_commit_with_right_expectations_does_everything(self, registry: Registry):
        revision = await registry.commit([Put("k", b"1"), Put("old", b"")])
        done = await registry.commit([Put("new", b"n"), Delete("old")], [Expect("k", revision), Expect("new", 0)])
        assert (await registry.list("")).records == (Record("k", b"1", revision), Record("new", b"n", done))

    async def test_of_concurrent_commits_with_the_same_expectation_one_wins(self, registry: Registry):
        outcomes = await asyncio.gather(
            *(registry.commit([Put("leader", str(n).encode())], [Expect("leader", 0)]) for n in range(50))
        )
        winners = [n for n, outcome in enumerate(outcomes) if outcome is not None]
        assert len(winners) == 1
        record = await registry.get("leader")
        assert record.value == str(winners[0]).encode()

    async def test_concurrent_commits_get_different_revisions(self, registry: Registry):
        revisions = await asyncio.gather(*(registry.commit([Put(f"k/{n}", b"v")]) for n in range(200)))
        assert len(set(revisions)) == 200
        records = (await registry.list("k/")).records
        assert {record.key: record.revision for record in records} == {f"k/{n}": r for n, r in enumerate(revisions)}

    @pytest.mark.parametrize("key", ["", "nul\0", "\ud800", "x" * (MAX_KEY_BYTES + 1)])
    async def test_impossible_keys_are_refused(self, registry: Registry, key: str):
        for attempt in (
            lambda: registry.get(key),
            lambda: registry.commit([Put(key, b"")]),
            lambda: registry.commit([Delete(key)]),
            lambda: registry.commit([], [Expect(key, 0)]),
        ):
            with pytest.raises(InvalidRecordError):
                await attempt()

    async def test_limits_and_repeated_keys_are_refused_and_nothing_is_written(self, registry: Registry):
        for operations, expect in (
            ([Put("a", b""), Put("big", bytes(MAX_VALUE_BYTES + 1))], []),
            ([Put("a", b""), Delete("a")], []),
            ([Put("a", b"")], [Expect("b", 0), Expect("b", 1)]),
            ([Put("a", b"", lease=987654)], []),
            ([Put(f"a{n}", b"") for n in range(129)], []),
        ):
            with pytest.raises(InvalidRecordError):
                await registry.commit(operations, expect)
        assert (await registry.list("")).records == ()

    async def test_the_largest_record_fits(self, registry: Registry):
        key, value = "k" * MAX_KEY_BYTES, bytes(MAX_VALUE_BYTES)
        revision = await registry.commit([Put(key, value)])
        assert await registry.get(key) == Record(key, value, revision)

    async def test_a_watch_sees_past_and_future_changes_once_and_in_order(self, registry: Registry):
        start = await registry.commit([Put("w/1", b"a"), Put("x", b"a")])
        second = await registry.commit([Put("w/1", b"b"), Put("w/2", b"b")])
        await registry.commit([Put("x", b"b")])
        seen = []
        async with registry.watch("w/", start) as changes:
            seen.append(await anext(changes))
            third = await registry.commit([Delete("w/1"), Delete("w/none")])
            seen.append(await asyncio.wait_for(anext(changes), 10))
        assert [{(c.key, c.record.value if c.record else None, c.revision) for c in commit} for commit in seen] == [
            {("w/1", b"b", second), ("w/2", b"b", second)},
            {("w/1", None, third)},
        ]

    async def test_a_listing_and_a_watch_from_its_revision_miss_nothing(self, registry: Registry):
        async def write():
            for n in range(100):
                await registry.commit([Put(f"n/{n % 7}", str(n).encode())])
            await registry.commit([Put("n/last", b"")])

        writer = asyncio.create_task(write())
        await asyncio.sleep(0)
        snapshot = await registry.list("n/")
        view = {record.key: record.value for record in snapshot.records}
        async with registry.watch("n/", snapshot.revision) as changes:
            while "n/last" not in view:
                for change in await asyncio.wait_for(anext(changes), 10):
                    view[change.key] = change.record.value
        await writer
        assert view == {record.key: record.value for record in (await registry.list("n/")).records}

    async def test_a_waiting_watch_can_be_cancelled(self, registry: Registry):
        async with registry.watch("", 0) as changes:
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await registry.commit([Put("k", b"")]) is not None

    async def test_records_of_a_revoked_lease_vanish_and_watches_see_it(self, registry: Registry):
        lease = await registry.grant_lease(60)
        revision = await registry.commit([Put("l/1", b"", lease), Put("l/2", b"", lease), Put("l/3", b"")])
        assert (await registry.get("l/1")).lease == lease
        async with registry.watch("l/", revision) as changes:
            await registry.revoke_lease(lease)
            gone = await asyncio.wait_for(anext(changes), 10)
        assert {(change.key, change.record) for change in gone} == {("l/1", None), ("l/2", None)}
        assert [record.key for record in (await registry.list("l/")).records] == ["l/3"]
        assert await registry.keep_alive(lease) is False
        await registry.revoke_lease(lease)
        with pytest.raises(InvalidRecordError):
            await registry.commit([Put("l/1", b"", lease)])

    async def test_a_record_written_without_its_lease_stays(self, registry: Registry):
        lease = await registry.grant_lease(60)
        await registry.commit([Put("l", b"1", lease)])
        await registry.commit([Put("l", b"2")])
        await registry.revoke_lease(lease)
        assert (await registry.get("l")).value == b"2"

    async def test_an_unattended_lease_ends_and_an_attended_one_does_not(self, registry: Registry):
        attended, unattended = await registry.grant_lease(1), await registry.grant_lease(1)
        await registry.commit([Put("attended", b"", attended), Put("unattended", b"", unattended)])
        async with asyncio.timeout(15):
            while await registry.get("unattended") is not None:
                assert await registry.keep_alive(attended)
                await asyncio.sleep(0.1)
        assert await registry.get("attended") is not None
        assert await registry.keep_alive(unattended) is False

    @pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
    async def test_impossible_leases_are_refused(self, registry: Registry, seconds: float):
        with pytest.raises(InvalidRecordError):
            await registry.grant_lease(seconds)

    async def test_a_closed_registry_says_so_and_its_watches_end(self, registry: Registry):
        async with registry.watch("", (await registry.list("")).revision) as changes:
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            await registry.close()
            with pytest.raises(RegistryUnavailableError):
                await waiting
        with pytest.raises(RegistryUnavailableError):
            await registry.get("k")
        with pytest.raises(RegistryUnavailableError):
            await registry.commit([Put("k", b"")])
        await registry.close()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(commits(), max_size=12))
    async def test_it_behaves_as_a_dictionary_with_revisions(self, registry: Registry, script):
        # One registry serves all examples, hence a prefix for each.
        prefix = f"run{next(RUNS)}/"
        start = (await registry.list("")).revision
        model: dict[str, Record] = {}
        history: list[dict[str, Record | None]] = []
        latest = start
        for operations, expected in script:
            named = [Put(prefix + o.key, o.value) if isinstance(o, Put) else Delete(prefix + o.key) for o in operations]
            holds = True
            expect = []
            for key, sort in expected.items():
                current = model[prefix + key].revision if prefix + key in model else 0
                holds &= sort == "right"
                expect.append(Expect(prefix + key, current if sort == "right" else current + 1))
            revision = await registry.commit(named, expect)
            assert (revision is not None) == holds
            if revision is None:
                continue
            changed: dict[str, Record | None] = {}
            for operation in named:
                if isinstance(operation, Put):
                    changed[operation.key] = model[operation.key] = Record(operation.key, operation.value, revision)
                elif model.pop(operation.key, None):
                    changed[operation.key] = None
            assert (revision > latest) == bool(changed)
            latest = revision
            if changed:
                history.append(changed)
            assert (await registry.list(prefix)).records == tuple(model[key] for key in sorted(model))
        async with registry.watch(prefix, start) as changes:
            for expected_changes in history:
                commit = await asyncio.wait_for(anext(changes), 10)
                assert {change.key: change.record for change in commit} == expected_changes
