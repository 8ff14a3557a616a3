"""Choosing a registry by URL, as `--registry` does."""

from __future__ import annotations

from pathlib import Path

from shoal.registry.election import Election
from shoal.registry.memory import Memory, MemoryElection, MemoryRegistry
from shoal.registry.protocol import Registry, RegistryError
from shoal.registry.sqlite.backend import open_sqlite


async def open_registry(url: str) -> tuple[Registry, Election]:
    """The registry at `sqlite:PATH` or `memory:`, and the election of who writes to it.

    Raises:
        RegistryError: the URL names no backend, or the backend cannot be opened.
    """
    scheme, colon, rest = url.partition(":")
    if scheme == "sqlite" and colon and rest:
        return await open_sqlite(Path(rest))
    if scheme == "memory" and colon and not rest:
        memory = Memory()
        return MemoryRegistry(memory), MemoryElection(memory)
    raise RegistryError(f"registry {url!r} is not known; use sqlite:PATH or memory:")
