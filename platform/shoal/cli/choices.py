"""Words that options and verbs are chosen from, where the command line and what it calls both name them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class Goal(StrEnum):
    """Values of `wait --for`."""

    READY = "Ready"
    LOADED = "Loaded"
    DELETE = "Delete"


Steering = Literal["pause", "resume", "promote", "abort", "retry"]
"""What can be done to a rollout under way."""
