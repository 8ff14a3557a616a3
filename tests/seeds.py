"""Seeds of what tests try at random: the same each time, so that a change is judged and not luck."""

from __future__ import annotations

import os


def seed(usual: int) -> int:
    """The usual seed, or the one of a search (`make soak`), which gives a new one to each try."""
    return int(os.environ.get("SHOAL_SEED") or usual)
