"""A registry that forgets: for tests and the simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sortedcontainers import SortedDict

from shoal.registry.changes import ChangeLog
from shoal.registry.local import LocalRegistry, Write, Written
from shoal.registry.protocol import Change, Delete, Record, Snapshot


class _MemoryEngine:
    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self._records: SortedDict = SortedDict()
        self._revision = 0

    async def read(self, key: str) -> Record | None:
        record: Record | None = self._records.get(key)
        return record

    async def scan(self, prefix: str) -> Snapshot:
        records = []
        for key in self._records.irange(prefix):
            if not key.startswith(prefix):
                break
            records.append(self._records[key])
        return Snapshot(tuple(records), self._revision)

    def write(self, write: Write) -> asyncio.Future[Written | None]:
        done: asyncio.Future[Written | None] = asyncio.get_running_loop().create_future()
        done.set_result(self._apply(write))
        return done

    def _apply(self, write: Write) -> Written | None:
        for expectation in write.expect:
            record = self._records.get(expectation.key)
            if (record.revision if record else 0) != expectation.revision:
                return None
        revision = self._revision + 1
        changes = []
        operations = [*write.operations, *(Delete(key) for key in self._held_by(write.end))]
        for operation in operations:
            if isinstance(operation, Delete):
                if self._records.pop(operation.key, None) is not None:
                    changes.append(Change(operation.key, None, revision))
            else:
                record = Record(operation.key, operation.value, revision, operation.lease)
                self._records[operation.key] = record
                changes.append(Change(operation.key, record, revision))
        if changes:
            self._revision = revision
            self._log.append(tuple(changes))
        return Written(self._revision, tuple(changes))

    def _held_by(self, lease: int | None) -> list[str]:
        return [] if lease is None else [key for key, record in self._records.items() if record.lease == lease]

    async def close(self) -> None:
        self._records.clear()


class MemoryRegistry(LocalRegistry):
    """Everything in this process's memory. Must be made inside a running event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        log = ChangeLog(0)
        super().__init__(_MemoryEngine(log), log, {}, clock)
