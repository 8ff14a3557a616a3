"""How short of processor time this pod's machine is, as the kernel measures it (pressure stall information)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_FILE: Final = Path("/proc/pressure/cpu")
_SOME: Final = re.compile(r"^some avg10=(\d+(?:\.\d+)?) ", re.MULTILINE)


def cpu_pressure(file: Path = _FILE) -> float:
    """The share of the last 10 s in which something that could run waited for a processor, to one digit.

    0 where the kernel does not tell. One digit is enough to act on, and seldom changes.
    """
    try:
        found = _SOME.search(file.read_text())
    except OSError:  # an older kernel, or one that was started without
        return 0.0
    return round(float(found[1]) / 100, 1) if found else 0.0
