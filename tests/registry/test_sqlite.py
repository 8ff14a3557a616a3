"""What only a registry on disk must do: outlive its process, share syncs, and have one owner."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from seeds import seed
from shoal.registry.local import Write
from shoal.registry.protocol import CompactedError, Put, Record, RegistryError, RegistryUnavailableError
from shoal.registry.sqlite import SqliteRegistry
from speed import times

SYNCHRONOUS_FULL = 2
"""SQLite's number for it; below, a commit may be lost with the power."""
KILLS = times(200)
KILLER = Path(__file__).with_name("kill_writer.py")


async def test_records_revisions_and_leases_outlive_the_process(tmp_path):
    path = tmp_path / "r.db"
    registry = await SqliteRegistry.open(path)
    lease = await registry.grant_lease(60)
    revision = await registry.commit([Put("k", b"v"), Put("leased", b"", lease)])
    await registry.close()

    registry = await SqliteRegistry.open(path)
    assert (await registry.list("")).records == (Record("k", b"v", revision), Record("leased", b"", revision, lease))
    assert (await registry.list("")).revision == revision
    assert await registry.keep_alive(lease)
    assert await registry.grant_lease(60) != lease
    assert await registry.commit([Put("k", b"w")]) == revision + 1
    async with registry.watch("", revision - 1) as changes:
        with pytest.raises(CompactedError):
            await anext(changes)
    async with registry.watch("", revision) as changes:
        assert [change.key for change in await anext(changes)] == ["k"]
    await registry.close()


async def test_a_second_process_is_refused_while_the_first_has_it(tmp_path):
    first = await SqliteRegistry.open(tmp_path / "r.db")
    with pytest.raises(RegistryError, match="open in another process"):
        await SqliteRegistry.open(tmp_path / "r.db")
    await first.close()
    await (await SqliteRegistry.open(tmp_path / "r.db")).close()


async def test_a_file_of_another_format_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RegistryError, match="format 99"):
        await SqliteRegistry.open(tmp_path / "r.db")


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "r.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RegistryUnavailableError, match="not a database"):
        await SqliteRegistry.open(tmp_path / "r.db")


async def test_what_is_acknowledged_survives_a_power_loss(tmp_path):
    registry = await SqliteRegistry.open(tmp_path / "r.db")
    writer = registry._engine._file.writer
    assert writer.execute("PRAGMA synchronous").fetchone()[0] >= SYNCHRONOUS_FULL
    await registry.close()


async def test_writes_that_wait_are_limited_and_those_before_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.registry.sqlite.MAX_WAITING", 3)
    registry = await SqliteRegistry.open(tmp_path / "r.db")
    with held_up(registry):
        first = [asyncio.ensure_future(registry.commit([Put(f"k{n}", b"v")])) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RegistryUnavailableError, match="3 writes wait already; try again later"):
            await registry.commit([Put("one too many", b"v")])
    await asyncio.gather(*first)
    assert await registry.commit([Put("later", b"v")])
    assert [record.key for record in (await registry.list("")).records] == ["k0", "k1", "k2", "later"]
    await registry.close()


@contextmanager
def held_up(registry):
    """The writer thread has taken one write and cannot go on, as on a disk that hangs."""
    taken, go = threading.Event(), threading.Event()
    engine = registry._engine
    commit = engine._commit

    def wait(batch):
        taken.set()
        assert go.wait(30)
        engine._commit = commit
        commit(batch)

    engine._commit = wait
    engine.write(Write())
    assert taken.wait(30)
    try:
        yield
    finally:
        go.set()


async def test_concurrent_commits_share_transactions(tmp_path):
    registry = await SqliteRegistry.open(tmp_path / "r.db")
    statements: list[str] = []
    registry._engine._file.writer.set_trace_callback(statements.append)
    await asyncio.gather(*(registry.commit([Put(f"k{n}", b"v")]) for n in range(500)))
    assert statements.count("COMMIT") < 50
    await registry.close()


async def test_a_failed_transaction_fails_its_commits_and_the_next_ones_work(tmp_path):
    registry = await SqliteRegistry.open(tmp_path / "r.db")
    before = await registry.commit([Put("k", b"v")])
    writer = registry._engine._file.writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(RegistryUnavailableError, match="full"):
        await registry.commit([Put("small", b""), Put("big", bytes(500_000))])
    writer.execute("PRAGMA max_page_count=100000")
    assert [record.key for record in (await registry.list("")).records] == ["k"]
    assert await registry.commit([Put("big", bytes(500_000))]) == before + 1
    await registry.close()


@pytest.mark.search
async def test_nothing_acknowledged_is_lost_and_nothing_is_half_there_after_kill_9(tmp_path):
    """A writer is killed at many random moments, each time on what the lives before left."""
    path = tmp_path / "r.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, KILLER, path, str(KILLS), str(seed(20)), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(240):
        output, _ = await process.communicate()
    assert process.returncode == 0
    outcome = json.loads(output)
    assert outcome["problems"] == []
    assert outcome["kills"] == KILLS
    assert outcome["lives_with_acknowledgements"] > KILLS / 4

    registry = await SqliteRegistry.open(path)
    snapshot = await registry.list("pair/")
    assert snapshot.revision >= outcome["last_acknowledged"]
    assert await registry.commit([Put("after", b"")]) == snapshot.revision + 1
    await registry.close()
