"""The SQLite file of a registry: its format, its lock and its connections."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from shoal.disk import full_message, means_full
from shoal.registry.protocol import RegistryError, RegistryUnavailableError

_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
  key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, lease INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_lease ON records (lease) WHERE lease IS NOT NULL;
CREATE TABLE IF NOT EXISTS leases (id INTEGER PRIMARY KEY, seconds REAL NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counters VALUES ('revision', 0);
"""


class SqliteFile:
    """The file's lock and connections. Everything here blocks."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._lock = -1
        self._open: list[sqlite3.Connection] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock(path)
            self.writer = self._connect(path)
            self._prepare(path)
            self.reader = self._connect(path)
            self.reader.execute("PRAGMA query_only=ON")
            self.revision: int = self.writer.execute("SELECT value FROM counters").fetchone()[0]
        except (OSError, sqlite3.Error) as error:
            self.close()
            why = full_message(path.parent) if means_full(error, path.parent) else error
            raise RegistryUnavailableError(f"registry {path} cannot be opened: {why}") from error
        except RegistryError:
            self.close()
            raise

    def leases(self) -> dict[int, float]:
        """Leases granted before, with their full length in seconds."""
        return dict(self.writer.execute("SELECT id, seconds FROM leases"))

    def refusal(self, error: Exception) -> RegistryUnavailableError:
        """Why a write failed."""
        if means_full(error, self._folder):
            why = f"{full_message(self._folder)}; it is written again once there is space"
        else:
            why = str(error)
        return RegistryUnavailableError(f"the registry cannot be written: {why}")

    def close(self) -> None:
        """Close connections and lock."""
        for connection in self._open:
            connection.close()
        if self._lock >= 0:
            os.close(self._lock)

    def _take_lock(self, path: Path) -> None:
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RegistryError(f"registry {path} is open in another process; stop that one first") from None

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._open.append(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _prepare(self, path: Path) -> None:
        found = self.writer.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _FORMAT):
            raise RegistryError(f"registry {path} has format {found}; this version of shoal reads {_FORMAT}")
        if found == 0:  # an open that writes nothing succeeds on a full disk, too
            self.writer.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_FORMAT}; COMMIT;")
