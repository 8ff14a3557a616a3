"""A registry backend is one file: the documentation's example is all that a new one needs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from shoal.registry import backends
from shoal.registry.open import open_registry
from shoal.registry.protocol import FencedError, Put, Record, RegistryError

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = DOCUMENT.read_text().partition("## Add a registry backend")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    (tmp_path / "shared.py").write_text(code[1])
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "shoal.registry.backends.shared", raising=False)


@pytest.mark.usefixtures("shared")
async def test_a_file_in_the_folder_is_a_backend() -> None:
    first, election = await open_registry("shared:a")
    term = await election.campaign()
    await first.commit([Put("k", b"v")], term)
    again, _ = await open_registry("shared:a")
    assert await again.list("") == (Record("k", b"v"),)
    with pytest.raises(FencedError):
        await again.commit([Put("k", b"w")], term + 1)
    other, _ = await open_registry("shared:b")
    assert await other.list("") == ()


@pytest.mark.usefixtures("shared")
async def test_it_is_named_among_those_there_are() -> None:
    with pytest.raises(RegistryError, match="use memory: or shared:NAME or sqlite:PATH"):
        await open_registry("shared:")
