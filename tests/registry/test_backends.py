"""The contract, kept by the backends there are."""

from __future__ import annotations

import pytest

from registry.contract import RegistryContract
from shoal.registry.memory import MemoryRegistry
from shoal.registry.open import open_registry
from shoal.registry.protocol import RegistryError


class TestMemory(RegistryContract):
    @pytest.fixture
    async def registry(self):
        registry = MemoryRegistry()
        yield registry
        await registry.close()


class TestSqlite(RegistryContract):
    @pytest.fixture
    async def registry(self, tmp_path):
        registry = await open_registry(f"sqlite:{tmp_path / 'state' / 'registry.db'}")
        yield registry
        await registry.close()


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite:", "memory", "memory:x", "etcd://somewhere", "/a/path"])
async def test_an_unknown_url_is_refused_with_the_ones_there_are(url):
    with pytest.raises(RegistryError, match="use sqlite:PATH or memory:"):
        await open_registry(url)
