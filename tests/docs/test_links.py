"""Every link within the repository leads somewhere, and every file that a page names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from support.docs import ROOT, Page, pages

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FOLDERS = ("bench/", "docs/", "examples/", "platform/", "protos/", "runtime/", "tests/")
_MADE_LATER = ("bench/results/",)


def links(page: Page) -> Iterator[str]:
    return (target for target in _LINK.findall(page.prose) if not re.match(r"[a-z]+:", target))


def problem(page: Page, target: str) -> str | None:
    name, _, anchor = target.partition("#")
    path = (page.path.parent / name).resolve() if name else page.path
    if not path.is_relative_to(ROOT) or not path.exists():
        return f"{target}: there is no such file"
    if anchor and anchor not in Page(path, path.read_text()).anchors():
        return f"{target}: {path.name} has no such heading"
    return None


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_lead_somewhere(page: Page) -> None:
    assert [found for target in links(page) if (found := problem(page, target))] == []


@pytest.mark.parametrize("page", pages(), ids=str)
def test_named_files_exist(page: Page) -> None:
    named = {name for name in page.inline() if name.startswith(_FOLDERS) and not re.search(r"[A-Z ]", name)}
    assert [name for name in sorted(named) if not name.startswith(_MADE_LATER) and not (ROOT / name).exists()] == []


def test_broken_links_are_noticed() -> None:
    page = Page(ROOT / "README.md", "")
    assert problem(page, "docs/no-such-page.md") is not None
    assert problem(page, "docs/lifecycle.md#no-such-heading") is not None
    assert problem(page, "docs/lifecycle.md#a-copy") is None
