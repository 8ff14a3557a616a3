"""The end of a container's log: the line in it that tells why its program ended."""

from __future__ import annotations

import re
from typing import Final

_ERROR: Final = re.compile(r"Fatal Python error: |[\w.]*(Error|Exception|Exit|Interrupt)\b|.*\b(panic|FATAL)\b")

_INFORMATION: Final = re.compile(r"\b(INFO|DEBUG)\b|^GET |^POST ")


def telling_line(log: str) -> str:
    """The last error in a log, else its last line that is no mere information; empty if it has none."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    others = [line for line in lines if not _INFORMATION.search(line)]
    return (errors or others or [""])[-1]
