"""Where the embedded cluster of this machine is: its state directory and what its supervisor wrote there."""

from __future__ import annotations

import json
from pathlib import Path


def gateway_of(root: Path) -> str:
    """Where the gateway of an embedded cluster answers REST, as its supervisor says; empty when it says nothing."""
    try:
        address = str(json.loads((root / "status.json").read_text())["addresses"]["rest"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return address if "://" in address else f"http://{address}"
