"""Which state directory a command means if it is not told."""

from __future__ import annotations

import os
from pathlib import Path

STATE_DIR_VARIABLE = "SHOAL_STATE_DIR"


def default_state_dir() -> Path:
    """`SHOAL_STATE_DIR`, else `shoal` below `XDG_STATE_HOME`, which is `~/.local/state` unless set."""
    chosen = os.environ.get(STATE_DIR_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    home = os.environ.get("XDG_STATE_HOME")
    base = Path(home) if home else Path.home() / ".local" / "state"
    return (base / "shoal").absolute()
