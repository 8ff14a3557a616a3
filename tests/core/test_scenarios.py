"""The transcripts in `scenarios/` come out as they are written. SHOAL_REWRITE=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core_scenarios import play

FILES = sorted(Path(__file__).with_name("scenarios").glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_transcript(file: Path) -> None:
    written = file.read_text()
    played = play(written)
    if os.environ.get("SHOAL_REWRITE"):
        file.write_text(played)
        return
    assert played == written


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 14


def test_a_difference_is_noticed() -> None:
    assert play("pod p1\n----\nsomething else\n") != "pod p1\n----\nsomething else\n"
