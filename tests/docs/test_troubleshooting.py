"""Every symptom of docs/troubleshooting.md is produced by a test, which asserts the words that the page shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from support.docs import ROOT

_PAGE = ROOT / "docs" / "troubleshooting.md"
_ENTRY = re.compile(r"^### (?P<symptom>.+)\n+(?P<mark><!-- test: (?P<path>\S+?)::(?P<name>\w+) -->)?", re.MULTILINE)


def _entries() -> list[re.Match[str]]:
    return list(_ENTRY.finditer(_PAGE.read_text()))


def _strings(path: Path) -> list[str]:
    """All texts in a Python file, those of f-strings in pieces."""
    tree = ast.parse(path.read_text())
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("entry", _entries(), ids=lambda entry: entry["symptom"][:60])
def test_entry_is_produced_by_a_test(entry: re.Match[str]) -> None:
    assert entry["mark"], f"{entry['symptom']}: name the test that produces it"
    path = ROOT / entry["path"]
    assert path.is_file(), f"{entry['symptom']}: there is no {entry['path']}"
    source = path.read_text()
    assert re.search(rf"^(async )?def {entry['name']}\(", source, re.MULTILINE), f"{path} has no {entry['name']}"
    strings = _strings(path)
    for quoted in re.findall(r"`([^`]+)`", entry["symptom"]):
        for piece in filter(None, (piece.strip() for piece in quoted.split("..."))):
            assert any(piece in text for text in strings), f"{entry['path']} does not assert {piece!r}"
