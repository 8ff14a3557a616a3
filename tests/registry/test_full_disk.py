"""A registry whose disk is full refuses, loses nothing, and goes on by itself."""

from __future__ import annotations

import asyncio
import sys

import pytest

from shoal.registry.backends.sqlite.backend import open_sqlite
from shoal.registry.protocol import Put, Record, RegistryUnavailableError
from support.disk import small_disk

LARGE = b"x" * 500_000


async def test_writes_are_refused_by_name_and_succeed_once_there_is_space(tmp_path):
    with small_disk(tmp_path / "disk", 8) as disk:
        registry, election = await open_sqlite(disk.root / "registry.db")
        term = await election.campaign()
        await registry.commit([Put("before", b"1")], term)
        disk.fill()
        for _ in range(2):
            with pytest.raises(RegistryUnavailableError, match=f"the disk of {disk.root} is full"):
                await registry.commit([Put("refused", LARGE)], term)
        assert await registry.list("") == (Record("before", b"1"),)
        disk.clear()
        await registry.commit([Put("after", LARGE)], term)
        await registry.close()

        registry, _ = await open_sqlite(disk.root / "registry.db")
        assert [record.key for record in await registry.list("")] == ["after", "before"]
        await registry.close()


async def test_one_that_cannot_be_opened_says_why(tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        disk.fill()
        with pytest.raises(RegistryUnavailableError, match=f"cannot be opened: the disk of {disk.root} is full"):
            await open_sqlite(disk.root / "registry.db")


VICTIM = """
import asyncio, os, sys
from pathlib import Path
from shoal.registry.protocol import Put
from shoal.registry.backends.sqlite.backend import open_sqlite

async def main():
    registry, election = await open_sqlite(Path(sys.argv[1]))
    await registry.commit([Put("before", b"1")], await election.campaign())
    os._exit(0)  # as kill -9 would end it

asyncio.run(main())
"""


async def test_after_a_kill_it_is_opened_and_read_on_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", 8) as disk:
        path = disk.root / "registry.db"
        victim = await asyncio.create_subprocess_exec(sys.executable, "-c", VICTIM, str(path))
        assert await victim.wait() == 0
        disk.fill()
        registry, election = await open_sqlite(path)
        assert [record.key for record in await registry.list("")] == ["before"]
        with pytest.raises(RegistryUnavailableError, match=f"the disk of {disk.root} is full"):
            await registry.commit([Put("refused", LARGE)], 1)
        assert await election.campaign() == 1  # a mesh that was killed comes back and serves
        disk.clear()
        assert await election.campaign() == 2
        await registry.commit([Put("after", LARGE)], 2)
        await registry.close()
