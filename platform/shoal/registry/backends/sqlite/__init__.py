"""The registry in one SQLite file."""

from __future__ import annotations

from pathlib import Path

from shoal.registry.backends.sqlite.backend import open_sqlite
from shoal.registry.election import Election
from shoal.registry.protocol import Registry

PLACE = "PATH"


async def open_backend(place: str) -> tuple[Registry, Election]:
    """Open the file at a path; see `open_sqlite`."""
    return await open_sqlite(Path(place))
