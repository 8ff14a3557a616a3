"""A registry in one SQLite file: what is acknowledged has been synced to disk, and survives the process's death.

Who has the file open is the leader, as nobody else can open it; the term is in the file, and grows with each campaign.
So the lock keeps others away, and should it fail, as when somebody removes the lock file, the term does.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shoal.registry.backends.sqlite.file import SqliteFile
from shoal.registry.backends.sqlite.writer import RegistryWriter
from shoal.registry.checks import check_commit, check_fence, check_prefix
from shoal.registry.protocol import Delete, FencedError, Put, Record, RegistryUnavailableError

log = logging.getLogger(__name__)


async def open_sqlite(path: Path) -> tuple[SqliteRegistry, SqliteElection]:
    """Open the file, and make it and its folder if they are not there.

    Raises:
        RegistryError: another process has it open, or it is not a registry this version understands.
        RegistryUnavailableError: the file system refuses.
    """
    file = await asyncio.to_thread(SqliteFile, path)
    writer = RegistryWriter(file)
    election = SqliteElection(file, writer)
    return SqliteRegistry(file, writer, election.rejected), election


class SqliteRegistry:
    """`Registry` in a SQLite file."""

    def __init__(self, file: SqliteFile, writer: RegistryWriter, rejected: Callable[[int], None]) -> None:
        self._file = file
        self._writer = writer
        self._rejected = rejected
        self._readers = ThreadPoolExecutor(1, "registry-reader")

    async def list(self, prefix: str) -> tuple[Record, ...]:
        """See `Registry`. One statement reads one snapshot."""
        check_prefix(prefix)
        if self._writer.closed:
            raise RegistryUnavailableError("the registry is closed")
        end = _after_prefix(prefix)
        bound, values = ("AND key < ?", (prefix, end)) if end is not None else ("", (prefix,))

        def read() -> list[tuple[str, bytes]]:
            query = f"SELECT key, value FROM records WHERE key >= ? {bound} ORDER BY key"
            return self._file.reader.execute(query, values).fetchall()

        try:
            rows = await asyncio.get_running_loop().run_in_executor(self._readers, read)
        except sqlite3.Error as error:
            raise RegistryUnavailableError(f"the registry cannot be read: {error}") from error
        return tuple(Record(*row) for row in rows)

    async def commit(self, operations: Sequence[Put | Delete], fence: int) -> None:
        """See `Registry`."""
        check_commit(operations)
        operations = tuple(operations)

        def write(connection: sqlite3.Connection) -> None:
            check_fence(fence, _term(connection))
            for operation in operations:
                if isinstance(operation, Put):
                    row = (operation.key, operation.value)
                    connection.execute("INSERT OR REPLACE INTO records (key, value) VALUES (?, ?)", row)
                else:
                    connection.execute("DELETE FROM records WHERE key = ?", (operation.key,))

        try:
            await self._writer.do(write)
        except FencedError:
            self._rejected(fence)
            raise

    async def close(self) -> None:
        """See `Registry`."""
        await self._writer.close()
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._file.close)


class SqliteElection:
    """`Election` by the lock beside the file: instead of waiting for who holds it, the file cannot be opened."""

    def __init__(self, file: SqliteFile, writer: RegistryWriter) -> None:
        self._file = file
        self._writer = writer
        self._term = 0
        self._lost = asyncio.Event()

    async def campaign(self) -> int:
        """See `Election`."""
        self._file.lock()
        try:
            self._term = await self._writer.do(_elect)
        except RegistryUnavailableError as error:
            # Nobody else has the file open, so nobody writes in the old term: requests are served on a full disk, too.
            self._term = await asyncio.to_thread(_term, self._file.reader)
            log.warning("elected again for term %d, as a new one cannot be written: %s", self._term, error)
        self._lost = asyncio.Event()
        return self._term

    async def lost(self) -> None:
        """See `Election`."""
        await self._lost.wait()

    def rejected(self, term: int) -> None:
        """A commit of a term was rejected."""
        if term == self._term:
            self._lost.set()

    async def resign(self) -> None:
        """See `Election`."""
        self._file.unlock()


def _term(connection: sqlite3.Connection) -> int:
    term: int = connection.execute("SELECT term FROM election").fetchone()[0]
    return term


def _elect(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE election SET term = term + 1")
    return _term(connection)


def _after_prefix(prefix: str) -> str | None:
    """The least string greater than all that start with `prefix`; None if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None
