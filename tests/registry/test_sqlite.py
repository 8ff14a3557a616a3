"""What only a registry on disk must do: outlive its process, share syncs, and have one owner."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from seeds import seed
from shoal.registry.backends.sqlite.backend import SqliteElection, SqliteRegistry, open_sqlite
from shoal.registry.protocol import FencedError, Put, Record, RegistryError, RegistryUnavailableError
from speed import times

SYNCHRONOUS_FULL = 2
"""SQLite's number for it; below, a commit may be lost with the power."""
KILLS = times(200)
KILLER = Path(__file__).with_name("kill_writer.py")


async def elected(path: Path) -> tuple[SqliteRegistry, SqliteElection, int]:
    registry, election = await open_sqlite(path)
    return registry, election, await election.campaign()


async def test_records_and_terms_outlive_the_process(tmp_path):
    registry, _, term = await elected(tmp_path / "r.db")
    await registry.commit([Put("k", b"v")], term)
    await registry.close()

    registry, _, later = await elected(tmp_path / "r.db")
    assert await registry.list("") == (Record("k", b"v"),)
    assert later == term + 1
    await registry.close()


FORMAT_1 = """
CREATE TABLE records (
  key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, lease INTEGER
) WITHOUT ROWID;
CREATE INDEX records_lease ON records (lease) WHERE lease IS NOT NULL;
CREATE TABLE leases (id INTEGER PRIMARY KEY, seconds REAL NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('revision', 7);
INSERT INTO records VALUES ('endpoints/a', '{"name": "a"}', 3, NULL), ('models/a-1', X'00FF', 7, NULL);
PRAGMA user_version=1;
"""


async def test_a_file_of_the_first_format_is_read_and_written_on(tmp_path):
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(FORMAT_1)
    for n in range(1, 3):
        registry, _, term = await elected(tmp_path / "r.db")
        assert term == n
        assert await registry.list("models/") == (Record("models/a-1", b"\0\xff"),)
        await registry.commit([Put("endpoints/a", str(n).encode())], term)
        await registry.close()
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        assert tables == [("election",), ("records",)]
        assert connection.execute("SELECT key, value FROM records ORDER BY key").fetchall() == [
            ("endpoints/a", b"2"),
            ("models/a-1", b"\0\xff"),
        ]


async def test_a_file_that_cannot_be_brought_to_the_format_stays_as_it_was(tmp_path):
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
        connection.executescript(FORMAT_1.replace("CREATE TABLE leases (", "CREATE TABLE others ("))
        before = list(connection.iterdump())
    with pytest.raises(RegistryUnavailableError, match="cannot be opened: no such table: leases"):
        await open_sqlite(tmp_path / "r.db")
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
        assert list(connection.iterdump()) == before
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


async def test_a_second_process_is_refused_while_the_first_has_it(tmp_path):
    path = tmp_path / "r.db"
    first, _, _ = await elected(path)
    with pytest.raises(RegistryError, match=f"registry {path} is open in another process; stop that one first"):
        await open_sqlite(path)
    await first.close()
    again, _ = await open_sqlite(path)
    await again.close()


async def test_who_leads_is_fenced_also_where_the_lock_file_was_removed(tmp_path):
    first, election, term = await elected(tmp_path / "r.db")
    (tmp_path / "r.db.lock").unlink()
    second, _, later = await elected(tmp_path / "r.db")
    with pytest.raises(FencedError, match=f"term {term} writes, but term {later} was elected"):
        await first.commit([Put("k", b"old")], term)
    await election.lost()
    await second.commit([Put("k", b"new")], later)
    assert await first.list("") == await second.list("") == (Record("k", b"new"),)
    await first.close()
    await second.close()


async def test_a_file_of_another_format_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RegistryError, match="format 99"):
        await open_sqlite(tmp_path / "r.db")


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "r.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RegistryUnavailableError, match="not a database"):
        await open_sqlite(tmp_path / "r.db")


async def test_what_is_acknowledged_survives_a_power_loss(tmp_path):
    registry, _ = await open_sqlite(tmp_path / "r.db")
    writer = registry._file.writer
    assert writer.execute("PRAGMA synchronous").fetchone()[0] >= SYNCHRONOUS_FULL
    await registry.close()


async def test_writes_that_wait_are_limited_and_those_before_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.registry.backends.sqlite.writer.MAX_WAITING", 3)
    registry, _, term = await elected(tmp_path / "r.db")
    with held_up(registry):
        first = [asyncio.ensure_future(registry.commit([Put(f"k{n}", b"v")], term)) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RegistryUnavailableError, match="3 writes wait already; try again later"):
            await registry.commit([Put("one too many", b"v")], term)
    await asyncio.gather(*first)
    await registry.commit([Put("later", b"v")], term)
    assert [record.key for record in await registry.list("")] == ["k0", "k1", "k2", "later"]
    await registry.close()


@contextmanager
def held_up(registry):
    """The writer thread has taken one write and cannot go on, as on a disk that hangs."""
    taken, go = threading.Event(), threading.Event()
    writer = registry._writer
    commit = writer._commit

    def wait(batch):
        taken.set()
        assert go.wait(30)
        writer._commit = commit
        commit(batch)

    writer._commit = wait
    writer.do(lambda connection: None)
    assert taken.wait(30)
    try:
        yield
    finally:
        go.set()


async def test_concurrent_commits_share_transactions(tmp_path):
    registry, _, term = await elected(tmp_path / "r.db")
    statements: list[str] = []
    registry._file.writer.set_trace_callback(statements.append)
    await asyncio.gather(*(registry.commit([Put(f"k{n}", b"v")], term) for n in range(500)))
    assert statements.count("COMMIT") < 50
    await registry.close()


async def test_a_failed_transaction_fails_its_commits_and_the_next_ones_work(tmp_path):
    registry, _, term = await elected(tmp_path / "r.db")
    await registry.commit([Put("k", b"v")], term)
    writer = registry._file.writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(RegistryUnavailableError, match="full"):
        await registry.commit([Put("small", b""), Put("big", bytes(500_000))], term)
    writer.execute("PRAGMA max_page_count=100000")
    assert [record.key for record in await registry.list("")] == ["k"]
    await registry.commit([Put("big", bytes(500_000))], term)
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

    registry, _, term = await elected(path)
    assert term > outcome["term"]
    await registry.commit([Put("after", b"")], term)
    await registry.close()
