"""What is said to be written is on the disk: the bytes before the name, and the name before anybody is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.durable import write_whole
from shoal.package.keys import generate_keys
from shoal.package.manifest import file_ref
from shoal.package.stores.local import LocalStore

WRITERS: list[tuple[str, Callable[[Path], object]]] = [
    ("file", lambda root: write_whole(root / "file", b"x", 0o600)),
    ("signing.pem", generate_keys),
    ("signing.pub", generate_keys),
    ("file", lambda root: LocalStore(root).write("file", b"x")),
    ("file", lambda root: LocalStore(root).create("file", b"x")),
    ("file", lambda root: LocalStore(root).upload("file", _source(root), file_ref(b"x"))),
]


def _source(root: Path) -> Path:
    path = root.parent / "source"
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_anybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], object]
):
    root = tmp_path / "root"
    root.mkdir()
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def fsync(number: int) -> None:
        path = Path(f"/proc/self/fd/{number}").readlink()
        synced.append(("folder" if path == root else "file", (root / name).exists()))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    write(root)
    assert ("file", False) in synced, "the bytes were not synced before they got their name"
    assert ("folder", True) in synced[synced.index(("file", False)) :], "the name was not synced"
