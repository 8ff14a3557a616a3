"""The generated parts of the documentation say what the code says now."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from shoal.core.lifecycle import copy_diagram, endpoint_diagram
from support.docs import ROOT, Page, pages


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


@pytest.mark.parametrize("page", pages(), ids=str)
def test_page_is_current(page: Page) -> None:
    assert GENERATE.regenerated(page.text) == page.text, "run: python docs/generate.py"


def test_every_part_is_shown_somewhere() -> None:
    texts = [page.text for page in pages()]
    missing = [name for name in GENERATE.PARTS if not any(f"<!-- generated: {name} -->" in text for text in texts)]
    assert missing == []


def test_diagrams_are_those_of_the_tables() -> None:
    text = (ROOT / "docs" / "lifecycle.md").read_text()
    assert f"```mermaid\n{copy_diagram()}```" in text
    assert f"```mermaid\n{endpoint_diagram()}```" in text


def test_a_stale_part_is_noticed() -> None:
    stale = "<!-- generated: runtime-ignored -->\nold\n<!-- end of runtime-ignored -->\n"
    assert GENERATE.regenerated(stale) != stale
    assert "old" not in GENERATE.regenerated(stale)
