"""What the core shows of a rollout."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.core.rollout.measure import Window
from shoal.core.rollout.record import Rollout


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout, and what was seen of both revisions since it began or the core started. Not to be changed."""

    rollout: Rollout
    active_window: Window
    target_window: Window
