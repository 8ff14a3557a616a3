"""Every backend there is: a new one adds a way to open it here, and keeps the same contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shoal.registry.backends.memory import Memory, MemoryElection, MemoryRegistry
from shoal.registry.election import Election
from shoal.registry.open import open_registry
from shoal.registry.protocol import Registry, RegistryError

URLS = {"memory": "", "sqlite": "sqlite:{folder}/state/registry.db"}
"""Where each backend stores what the processes of a test share; the memory backend is given it by hand."""


@dataclass
class Process:
    """What one process has of a store."""

    registry: Registry
    election: Election
    term: int = 0


@dataclass
class Processes:
    """Processes that share one store; all in this one."""

    url: str
    memory: Memory = field(default_factory=Memory)
    opened: list[Process] = field(default_factory=list)

    async def start(self) -> Process:
        """A process that campaigns until it leads, also where it is refused meanwhile instead of waiting."""
        while True:
            try:
                process = await self._open()
                process.term = await process.election.campaign()
            except RegistryError:
                await asyncio.sleep(0.01)
            else:
                return process

    async def _open(self) -> Process:
        if self.url:
            process = Process(*await open_registry(self.url))
        else:
            process = Process(MemoryRegistry(self.memory), MemoryElection(self.memory))
        self.opened.append(process)
        return process


@pytest.fixture(params=URLS)
async def processes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(URLS[request.param].format(folder=tmp_path))
    yield processes
    for process in processes.opened:
        await process.registry.close()


@pytest.fixture
async def leader(processes: Processes) -> Process:
    return await processes.start()


@pytest.fixture
def registry(leader: Process) -> Registry:
    return leader.registry


@pytest.fixture
def term(leader: Process) -> int:
    return leader.term
