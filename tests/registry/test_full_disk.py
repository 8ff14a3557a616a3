"""A registry whose disk is full refuses, loses nothing, and goes on by itself."""

from __future__ import annotations

import pytest

from disk_support import small_disk
from shoal.registry.protocol import Put, RegistryUnavailableError
from shoal.registry.sqlite import SqliteRegistry

LARGE = b"x" * 500_000


async def test_writes_are_refused_by_name_and_succeed_once_there_is_space(tmp_path):
    with small_disk(tmp_path / "disk", 8) as disk:
        registry = await SqliteRegistry.open(disk.root / "registry.db")
        kept = await registry.commit([Put("before", b"1")])
        disk.fill()
        for _ in range(2):
            with pytest.raises(RegistryUnavailableError, match=f"the disk of {disk.root} is full"):
                await registry.commit([Put("refused", LARGE)])
        record = await registry.get("before")
        assert record is not None
        assert record.revision == kept
        assert await registry.get("refused") is None
        disk.clear()
        assert await registry.commit([Put("after", LARGE)]) == kept + 1
        await registry.close()

        registry = await SqliteRegistry.open(disk.root / "registry.db")
        assert [record.key for record in (await registry.list("")).records] == ["after", "before"]
        await registry.close()


async def test_one_that_cannot_be_opened_says_why(tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        disk.fill()
        with pytest.raises(RegistryUnavailableError, match=f"cannot be opened: the disk of {disk.root} is full"):
            await SqliteRegistry.open(disk.root / "registry.db")
