"""Which state directory is meant: where an embedded cluster keeps everything it knows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "SHOAL_STATE_DIR"


def state_dir(path: str | Path | None = None) -> Path:
    """The one given, else `SHOAL_STATE_DIR`, else `shoal` below `XDG_STATE_HOME` (`~/.local/state` unless set)."""
    if chosen := path or os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    home = os.environ.get("XDG_STATE_HOME")
    return ((Path(home) if home else Path.home() / ".local" / "state") / "shoal").absolute()
