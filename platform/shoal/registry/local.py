"""What the registries of one process share: limits, leases and watches over a storage engine.

A lease's end is decided here and carried out by the engine as an ordinary write, in the order of all writes. Reads wait
for such writes, so a record is never seen after its lease has ended, however late the reaper is. As in etcd, keeping a
lease alive is not written: after a restart every lease runs its full time anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from shoal.registry.changes import ChangeLog
from shoal.registry.checks import check_commit, check_key, check_lease, check_prefix
from shoal.registry.leases import Leases
from shoal.registry.protocol import Change, Delete, Expect, Put, Record, RegistryUnavailableError, Snapshot

REAP_SECONDS = 0.5
"""How often leases are looked over; reads and commits look by themselves."""


@dataclass(frozen=True, slots=True)
class Write:
    """One atomic write. `end` removes a lease with its records, `grant` remembers one (id, seconds)."""

    operations: tuple[Put | Delete, ...] = ()
    expect: tuple[Expect, ...] = ()
    grant: tuple[int, float] | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did. Without `changes` the revision stayed as it was."""

    revision: int
    changes: tuple[Change, ...]


class Engine(Protocol):
    """Stores records. Writes are carried out in the order in which `write` is called."""

    async def read(self, key: str) -> Record | None:
        """The record at `key`."""

    async def scan(self, prefix: str) -> Snapshot:
        """The records below `prefix`."""

    def write(self, write: Write) -> asyncio.Future[Written | None]:
        """Do it durably and report it to the change log; None if an expectation does not hold."""

    async def close(self) -> None:
        """Finish what was asked, then release everything."""


class LocalRegistry:
    """`shoal.registry.protocol.Registry` on top of an engine in this process."""

    def __init__(
        self,
        engine: Engine,
        log: ChangeLog,
        leases: dict[int, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._log = log
        self._clock = clock
        self._leases = Leases()
        for lease, seconds in leases.items():
            self._leases.start(lease, seconds, clock())
        self._last_lease = max(leases, default=0)
        self._ending: set[asyncio.Future[Written | None]] = set()
        self._closed = False
        self._reaper = asyncio.create_task(self._reap())

    async def get(self, key: str) -> Record | None:
        """See `Registry.get`."""
        check_key(key)
        await self._settle()
        return await self._engine.read(key)

    async def list(self, prefix: str) -> Snapshot:
        """See `Registry.list`."""
        check_prefix(prefix)
        await self._settle()
        return await self._engine.scan(prefix)

    async def commit(self, operations: Sequence[Put | Delete], expect: Sequence[Expect] = ()) -> int | None:
        """See `Registry.commit`. If the caller is cancelled meanwhile, the commit may happen or not."""
        self._end_overdue()
        check_commit(operations, expect, self._leases)
        written = await self._write(Write(tuple(operations), tuple(expect)))
        return None if written is None else written.revision

    def watch(self, prefix: str, after: int) -> AbstractAsyncContextManager[AsyncIterator[tuple[Change, ...]]]:
        """See `Registry.watch`."""
        check_prefix(prefix)
        return self._log.watch(prefix, after)

    async def grant_lease(self, seconds: float) -> int:
        """See `Registry.grant_lease`."""
        self._end_overdue()
        check_lease(seconds, len(self._leases))
        self._last_lease += 1
        lease = self._last_lease
        self._leases.start(lease, seconds, self._clock())
        try:
            await self._write(Write(grant=(lease, seconds)))
        except RegistryUnavailableError:
            self._leases.drop(lease)
            raise
        return lease

    async def keep_alive(self, lease: int) -> bool:
        """See `Registry.keep_alive`."""
        self._check_open()
        self._end_overdue()
        return self._leases.renew(lease, self._clock())

    async def revoke_lease(self, lease: int) -> None:
        """See `Registry.revoke_lease`."""
        self._check_open()
        if self._leases.drop(lease):
            self._end(lease)
        await self._settle()

    async def close(self) -> None:
        """See `Registry.close`."""
        if self._closed:
            return
        self._closed = True
        self._reaper.cancel()
        await asyncio.gather(self._reaper, return_exceptions=True)
        await self._engine.close()
        self._log.close()

    async def _write(self, write: Write) -> Written | None:
        self._check_open()
        return await self._engine.write(write)

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryUnavailableError("the registry is closed")

    def _end_overdue(self) -> None:
        for lease in self._leases.overdue(self._clock()):
            self._leases.drop(lease)
            self._end(lease)

    def _end(self, lease: int) -> None:
        def ended(write: asyncio.Future[Written | None]) -> None:
            self._ending.discard(write)
            if write.exception() is not None:
                self._leases.start(lease, 0.0, self._clock())  # Overdue at once, so it is tried again.

        write = self._engine.write(Write(end=lease))
        self._ending.add(write)
        write.add_done_callback(ended)

    async def _settle(self) -> None:
        """Have every lease that has ended written as ended."""
        self._check_open()
        self._end_overdue()
        if not self._ending:
            return
        done, _ = await asyncio.wait(self._ending)
        for write in done:
            write.result()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_SECONDS)
            self._end_overdue()
