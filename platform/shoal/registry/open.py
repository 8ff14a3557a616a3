"""Choosing a registry by URL, as `--registry` does."""

from __future__ import annotations

from pathlib import Path

from shoal.registry.memory import MemoryRegistry
from shoal.registry.protocol import Registry, RegistryError
from shoal.registry.sqlite import SqliteRegistry


async def open_registry(url: str) -> Registry:
    """The registry at `sqlite:PATH` or `memory:`.

    Raises:
        RegistryError: the URL names no backend, or the backend cannot be opened.
    """
    scheme, colon, rest = url.partition(":")
    if scheme == "sqlite" and colon and rest:
        return await SqliteRegistry.open(Path(rest))
    if scheme == "memory" and colon and not rest:
        return MemoryRegistry()
    raise RegistryError(f"registry {url!r} is not known; use sqlite:PATH or memory:")
