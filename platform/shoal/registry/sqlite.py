"""A registry in one SQLite file: what is acknowledged has been synced to disk, and survives the process's death.

One thread writes. It takes every write that waits and does them in one transaction, so that concurrent commits share a
sync; each still is all or nothing, because its expectations are checked before it touches anything.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal.registry.changes import ChangeLog
from shoal.registry.local import LocalRegistry, Write, Written
from shoal.registry.protocol import Change, Delete, Put, Record, RegistryUnavailableError, Snapshot
from shoal.registry.sqlite_file import SqliteFile

_COLUMNS = "key, value, revision, lease"
MAX_BATCH = 1000
"""Most writes of one transaction."""
MAX_WAITING = 20_000
"""Most writes that wait; further ones are refused at once."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    write: Write
    done: asyncio.Future[Written | None]


class SqliteRegistry(LocalRegistry):
    """`Registry` in a SQLite file. Made by `open`; one process at a time."""

    @classmethod
    async def open(cls, path: Path, clock: Callable[[], float] = time.monotonic) -> SqliteRegistry:
        """Open the file, and make it and its folder if they are not there.

        Raises:
            RegistryError: another process has it open, or it is not a registry this version understands.
            RegistryUnavailableError: the file system refuses.
        """
        loop = asyncio.get_running_loop()
        file = await asyncio.to_thread(SqliteFile, path)
        log = ChangeLog(file.revision)
        return cls(_SqliteEngine(file, log, loop), log, file.leases(), clock)


class _SqliteEngine:
    def __init__(self, file: SqliteFile, log: ChangeLog, loop: asyncio.AbstractEventLoop) -> None:
        self._file = file
        self._log = log
        self._loop = loop
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._revision = file.revision
        self._readers = ThreadPoolExecutor(1, "registry-reader")
        self._writer = threading.Thread(target=self._run, name="registry-writer", daemon=True)
        self._writer.start()

    async def read(self, key: str) -> Record | None:
        rows, _ = await self._query(f"SELECT {_COLUMNS} FROM records WHERE key = ?", (key,))
        return Record(*rows[0]) if rows else None

    async def scan(self, prefix: str) -> Snapshot:
        end = _after_prefix(prefix)
        bound, values = ("AND key < ?", (prefix, end)) if end is not None else ("", (prefix,))
        rows, revision = await self._query(
            f"SELECT {_COLUMNS} FROM records WHERE key >= ? {bound} ORDER BY key", values
        )
        return Snapshot(tuple(Record(*row) for row in rows), revision)

    def write(self, write: Write) -> asyncio.Future[Written | None]:
        done: asyncio.Future[Written | None] = self._loop.create_future()
        if self._queue.qsize() >= MAX_WAITING:
            done.set_exception(RegistryUnavailableError(f"{MAX_WAITING} writes wait already; try again later"))
        else:
            self._queue.put(_Waiting(write, done))
        return done

    async def close(self) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._file.close)

    async def _query(self, query: str, values: Sequence[str]) -> tuple[list[Any], int]:
        """The rows and the revision they are of, from one snapshot."""

        def read() -> tuple[list[Any], int]:
            connection = self._file.reader
            connection.execute("BEGIN")
            try:
                rows = connection.execute(query, values).fetchall()
                return rows, connection.execute("SELECT value FROM counters").fetchone()[0]
            finally:
                connection.execute("COMMIT")

        try:
            return await self._loop.run_in_executor(self._readers, read)
        except sqlite3.Error as error:
            raise RegistryUnavailableError(f"the registry cannot be read: {error}") from error

    def _run(self) -> None:
        """The writer thread."""
        stopping = False
        while not stopping:
            item = self._queue.get()
            batch: list[_Waiting] = []
            while item is not None:
                batch.append(item)
                if len(batch) == MAX_BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            stopping = item is None
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Waiting]) -> None:
        before = self._revision
        outcomes: list[Written | None] = []
        connection = self._file.writer
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._apply(connection, waiting.write) for waiting in batch]
            connection.execute("UPDATE counters SET value = ?", (self._revision,))
            connection.execute("COMMIT")
        except Exception as error:  # Whatever went wrong, those who wait get an answer and the thread lives on.
            self._revision = before
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = self._file.refusal(error)
            self._tell(lambda: _fail(batch, failure))
        else:
            self._tell(lambda: self._acknowledge(batch, outcomes))

    def _apply(self, connection: sqlite3.Connection, write: Write) -> Written | None:
        for expectation in write.expect:
            row = connection.execute("SELECT revision FROM records WHERE key = ?", (expectation.key,)).fetchone()
            if (row[0] if row else 0) != expectation.revision:
                return None
        revision = self._revision + 1
        operations: list[Put | Delete] = list(write.operations)
        if write.grant is not None:
            connection.execute("INSERT INTO leases VALUES (?, ?)", write.grant)
        if write.end is not None:
            held = connection.execute("SELECT key FROM records WHERE lease = ? ORDER BY key", (write.end,))
            operations.extend(Delete(key) for (key,) in held.fetchall())
            connection.execute("DELETE FROM leases WHERE id = ?", (write.end,))
        changes = tuple(change for operation in operations if (change := _do(connection, operation, revision)))
        if changes:
            self._revision = revision
        return Written(self._revision, changes)

    def _acknowledge(self, batch: list[_Waiting], outcomes: list[Written | None]) -> None:
        for outcome in outcomes:
            if outcome is not None and outcome.changes:
                self._log.append(outcome.changes)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(outcome)

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            pass  # The event loop is gone, and with it whoever waited.


def _do(connection: sqlite3.Connection, operation: Put | Delete, revision: int) -> Change | None:
    if isinstance(operation, Delete):
        gone = connection.execute("DELETE FROM records WHERE key = ?", (operation.key,)).rowcount
        return Change(operation.key, None, revision) if gone else None
    record = Record(operation.key, operation.value, revision, operation.lease)
    connection.execute(
        f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, lease = excluded.lease",
        (record.key, record.value, record.revision, record.lease),
    )
    return Change(operation.key, record, revision)


def _fail(batch: list[_Waiting], failure: RegistryUnavailableError) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_exception(failure)


def _after_prefix(prefix: str) -> str | None:
    """The least string greater than all that start with `prefix`; None if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None
