"""A registry that forgets: for tests and the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sortedcontainers import SortedDict

from shoal.registry.checks import check_commit, check_fence, check_prefix
from shoal.registry.protocol import Delete, Put, Record, RegistryUnavailableError

PLACE = ""


class Memory:
    """What registries and elections have in common that are about the same records."""

    def __init__(self) -> None:
        self.values: SortedDict = SortedDict()
        self.term = 0
        self.led = asyncio.Lock()
        self.elected = asyncio.Condition()


class MemoryRegistry:
    """`Registry` in this process's memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._closed = False

    async def list(self, prefix: str) -> tuple[Record, ...]:
        """See `Registry`."""
        check_prefix(prefix)
        self._check_open()
        records = []
        for key in self._memory.values.irange(prefix):
            if not key.startswith(prefix):
                break
            records.append(Record(key, self._memory.values[key]))
        return tuple(records)

    async def commit(self, operations: Sequence[Put | Delete], fence: int) -> None:
        """See `Registry`."""
        check_commit(operations)
        self._check_open()
        check_fence(fence, self._memory.term)
        for operation in operations:
            if isinstance(operation, Put):
                self._memory.values[operation.key] = operation.value
            else:
                self._memory.values.pop(operation.key, None)

    async def close(self) -> None:
        """See `Registry`."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryUnavailableError("the registry is closed")


class MemoryElection:
    """`Election` among the tasks of this process."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._leads = False
        self._term = 0

    async def campaign(self) -> int:
        """See `Election`."""
        if not self._leads:
            await self._memory.led.acquire()
            self._leads = True
        async with self._memory.elected:
            self._memory.term += 1
            self._term = self._memory.term
            self._memory.elected.notify_all()
        return self._term

    async def lost(self) -> None:
        """See `Election`."""
        async with self._memory.elected:
            await self._memory.elected.wait_for(lambda: self._memory.term != self._term)

    async def resign(self) -> None:
        """See `Election`."""
        if self._leads:
            self._leads = False
            self._memory.led.release()


async def open_backend(place: str) -> tuple[MemoryRegistry, MemoryElection]:
    """A registry that nobody else has; nothing may follow `memory:`."""
    memory = Memory()
    return MemoryRegistry(memory), MemoryElection(memory)
