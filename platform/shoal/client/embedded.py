"""Where the embedded cluster of this machine is: its state directory and what its supervisor wrote there."""

from __future__ import annotations

import json
import os
from pathlib import Path


def state_dir(path: str | Path | None) -> Path:
    """The one given, else as the command line chooses: `SHOAL_STATE_DIR`, or one per user."""
    if path is not None:
        return Path(path).expanduser().absolute()
    if chosen := os.environ.get("SHOAL_STATE_DIR"):
        return Path(chosen).expanduser().absolute()
    home = os.environ.get("XDG_STATE_HOME")
    return ((Path(home) if home else Path.home() / ".local" / "state") / "shoal").absolute()


def gateway_of(root: Path) -> str:
    """Where the gateway of an embedded cluster answers REST, as its supervisor says; empty when it says nothing."""
    try:
        address = str(json.loads((root / "status.json").read_text())["addresses"]["rest"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return address if "://" in address else f"http://{address}"
