"""Durable objects: one SQLite file, written ahead, synced before anything is acknowledged.

One write at a time: a draft is made from the state in memory, committed to disk on a writer thread, and only then
applied to memory and announced to watches. So memory never shows what a crash could take back.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from shoal.apiserver.errors import ApiError, disk_full, too_many_requests
from shoal.apiserver.history import MAX_BYTES, MAX_CHANGES, History
from shoal.apiserver.state import Change, ChangeType, Key, ObjectRecord, ObjectState, StateDraft
from shoal.disk import full_message, means_full

MAX_OBJECTS = 200_000
MAX_WAITING = 2_000
"""Most writes that wait for the disk; further ones are refused at once."""
_LAYOUT = 1
_TRIM_EVERY = 500

_T = TypeVar("_T")
Listener = Callable[[list[Change]], None]


class StoreError(RuntimeError):
    """The database cannot be opened."""


class ObjectStore:
    """All objects of one state directory. Use `await write(...)` for changes; reads are plain attribute access."""

    def __init__(
        self,
        path: Path,
        *,
        max_objects: int = MAX_OBJECTS,
        max_waiting: int = MAX_WAITING,
        max_changes: int = MAX_CHANGES,
        max_history_bytes: int = MAX_BYTES,
    ) -> None:
        self.state = ObjectState()
        self.history = History(0, max_changes=max_changes, max_bytes=max_history_bytes)
        self._max_objects = max_objects
        self._max_waiting = max_waiting
        self._waiting = 0
        self._listeners: list[Listener] = []
        self._lock = asyncio.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._since_trim = 0
        self._folder = path.parent
        self._connection = _open(path)
        self._load()

    def _load(self) -> None:
        rows = self._connection.execute("SELECT resource, namespace, name, version, document FROM objects")
        for resource, namespace, name, version, text in rows:
            self.state.put(ObjectRecord(Key(resource, namespace, name), version, json.loads(text), text))
        changes = [_change(row) for row in self._connection.execute(_SELECT_CHANGES)]
        (self.state.version,) = self._connection.execute("SELECT version FROM latest").fetchone()
        self.history.floor = changes[0].record.version - 1 if changes else self.state.version
        self.history.add(changes)

    def listen(self, listener: Listener) -> None:
        """Have `listener` called, in the event loop, with each committed batch of changes."""
        self._listeners.append(listener)

    async def write(self, decide: Callable[[StateDraft], _T]) -> _T:
        """Run `decide` on a draft and make what it did durable; its result is returned after the commit.

        `decide` must be synchronous and free of I/O. If it raises, nothing changes.

        Raises:
            ApiError: what `decide` raises; 403 when there are too many objects; 429 when too many writes wait; 507 when
                the disk is full, 500 when it refuses otherwise.
        """
        async with self._turn():
            draft = StateDraft(self.state)
            result = decide(draft)
            changes = draft.changes()
            if changes:
                if draft.growth > 0 and self.state.count + draft.growth > self._max_objects:
                    raise ApiError(
                        403, "Forbidden", f"exceeded quota: this server holds at most {self._max_objects} objects"
                    )
                # Shielded: a client that goes away must not leave memory behind the disk.
                await asyncio.shield(asyncio.ensure_future(self._commit(changes)))
            return result

    async def rehearse(self, decide: Callable[[StateDraft], _T]) -> _T:
        """Run `decide` like `write` does and drop what it did: a dry run.

        Raises:
            ApiError: what `decide` raises; 429 when too many writes wait.
        """
        async with self._turn():
            return decide(StateDraft(self.state))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One at a time, in the order in which they came."""
        if self._waiting >= self._max_waiting:
            raise too_many_requests(f"{self._max_waiting} writes wait for the disk already; try again", 1)
        self._waiting += 1
        try:
            async with self._lock:
                yield
        finally:
            self._waiting -= 1

    async def _commit(self, changes: list[Change]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._persist, changes)
        except sqlite3.Error as error:
            if means_full(error, self._folder):
                raise disk_full(
                    f"{full_message(self._folder)}: nothing was changed; free some space there and try again"
                ) from error
            raise ApiError(500, "InternalError", f"the write is not durable and was given up: {error}") from error
        self.state.apply(changes)
        self.history.add(changes)
        for listener in self._listeners:
            listener(changes)

    def _persist(self, changes: list[Change]) -> None:
        connection = self._connection
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for change in changes:
                _write_change(connection, change)
            connection.execute("UPDATE latest SET version = ?", (changes[-1].record.version,))
            self._since_trim += len(changes)
            if self._since_trim >= _TRIM_EVERY:
                self._since_trim = 0
                connection.execute("DELETE FROM changes WHERE version <= ?", (self.history.floor,))

    def close(self) -> None:
        """Finish the write in progress and close the file."""
        self._writer.shutdown(wait=True)
        self._connection.close()


_SELECT_CHANGES = "SELECT version, type, resource, namespace, name, document, previous FROM changes ORDER BY version"


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
    try:
        # Exclusive: a second server on the same state directory must fail instead of diverging.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if layout not in (0, _LAYOUT):
            raise StoreError(f"{path} has layout {layout}, this version of Shoal reads layout {_LAYOUT}")
        connection.execute("BEGIN IMMEDIATE")
        if layout == 0:
            _create(connection)
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        connection.close()
        if means_full(error, path.parent):
            raise StoreError(f"{path} cannot be opened: {full_message(path.parent)}") from error
        raise StoreError(f"{path}: {error}; is another server running on this state directory?") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StoreError(f"{path} is not a usable database: {error}; move it away to start empty") from error
    return connection


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file; one that has them is opened without a write, so on a full disk, too."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, "
        "version INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID"
    )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS changes (version INTEGER PRIMARY KEY, type TEXT NOT NULL, "
        "resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL, "
        "previous TEXT)"
    )
    connection.execute("CREATE TABLE IF NOT EXISTS latest (version INTEGER NOT NULL)")
    connection.execute("INSERT INTO latest SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM latest)")
    connection.execute(f"PRAGMA user_version = {_LAYOUT}")


def _write_change(connection: sqlite3.Connection, change: Change) -> None:
    record, key = change.record, change.record.key
    name = (key.resource, key.namespace, key.name)
    if change.type == "DELETED":
        connection.execute("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", name)
    else:
        connection.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*name, record.version, record.text)
        )
    previous = change.previous.text if change.previous else None
    connection.execute(
        "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)", (record.version, change.type, *name, record.text, previous)
    )


def _change(row: tuple[int, ChangeType, str, str, str, str, str | None]) -> Change:
    version, kind, resource, namespace, name, text, previous = row
    key = Key(resource, namespace, name)
    before = None
    if previous is not None:
        document = json.loads(previous)
        before = ObjectRecord(key, int(document["metadata"]["resourceVersion"]), document, previous)
    return Change(kind, ObjectRecord(key, version, json.loads(text), text), before)
