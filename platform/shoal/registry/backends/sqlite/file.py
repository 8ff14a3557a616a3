"""The SQLite file of a registry: its format, its lock and its connections."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from shoal.disk import full_message, means_full
from shoal.registry.protocol import RegistryError, RegistryUnavailableError

_FORMAT = 2
_SCHEMA = """
CREATE TABLE records (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE election (term INTEGER NOT NULL);
INSERT INTO election VALUES (0);
"""
_FROM_FORMAT_1 = f"""
ALTER TABLE records RENAME TO records_1;
{_SCHEMA}
INSERT INTO records SELECT key, value FROM records_1;
DROP TABLE records_1;
DROP TABLE leases;
DROP TABLE counters;
"""
"""Format 1 had revisions and leases of records, which nobody used."""
_STEPS = {0: _SCHEMA, 1: _FROM_FORMAT_1}
"""How a file of a format, 0 being an empty one, becomes one of today's."""


class SqliteFile:
    """The file's lock and connections. Everything here blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1
        self._open: list[sqlite3.Connection] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock()
            self.writer = self._connect()
            self._prepare()
            self.reader = self._connect()
            self.reader.execute("PRAGMA query_only=ON")
        except (OSError, sqlite3.Error) as error:
            self.close()
            why = full_message(path.parent) if means_full(error, path.parent) else error
            raise RegistryUnavailableError(f"registry {path} cannot be opened: {why}") from error
        except RegistryError:
            self.close()
            raise

    def lock(self) -> None:
        """Keep others away; once more is no harm.

        Raises:
            RegistryError: another process does.
        """
        if self._lock >= 0:
            return
        self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise RegistryError(f"registry {self._path} is open in another process; stop that one first") from None

    def unlock(self) -> None:
        """Let others have the file."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def refusal(self, error: Exception) -> RegistryUnavailableError:
        """Why a write failed."""
        folder = self._path.parent
        if means_full(error, folder):
            why = f"{full_message(folder)}; it is written again once there is space"
        else:
            why = str(error)
        return RegistryUnavailableError(f"the registry cannot be written: {why}")

    def close(self) -> None:
        """Close connections and lock."""
        for connection in self._open:
            connection.close()
        self.unlock()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._open.append(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _prepare(self) -> None:
        found = self.writer.execute("PRAGMA user_version").fetchone()[0]
        if found == _FORMAT:  # an open that writes nothing succeeds on a full disk, too
            return
        if found not in _STEPS:
            raise RegistryError(f"registry {self._path} has format {found}; this version of shoal reads {_FORMAT}")
        self.writer.executescript(f"BEGIN IMMEDIATE; {_STEPS[found]} PRAGMA user_version={_FORMAT}; COMMIT;")
