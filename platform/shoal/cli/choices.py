"""What options may say: the words they are chosen from, and durations."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal

from shoal.cli.errors import UsageProblem

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}


class Goal(StrEnum):
    """Values of `wait --for`."""

    READY = "Ready"
    LOADED = "Loaded"
    DELETE = "Delete"


Steering = Literal["pause", "resume", "promote", "abort", "retry"]
"""What can be done to a rollout under way."""


def duration(text: str) -> float:
    """Seconds of `60s`, `2m`, `500ms`, `1h` or `90`.

    Raises:
        UsageProblem: it is none of these.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageProblem(f"--timeout: {text!r} is not a duration such as 60s, 2m or 90")
    return float(match[1]) * _UNITS[match[2]]
