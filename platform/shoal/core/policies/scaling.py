"""How many copies: a second one for steady use, more for load, fewer when space is short and they idle.

A policy sees plain numbers and answers with a number; it neither knows nor changes the state of the core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from shoal.core.settings import CoreSettings


@dataclass(frozen=True, slots=True)
class Demand:
    """One revision's use and copies."""

    copies: int
    """Loaded ones."""
    coming: int
    """Queued or loading."""
    pods: int
    """Pods that could hold it, those that do included."""
    least: int
    most: int | None
    rpm: float
    """Over all copies; 0 when not known yet."""
    steady: bool
    """Used now and also a while ago."""
    idle: float
    """Seconds since its last use."""
    calm: float
    """Seconds since load last demanded more copies."""
    space_short: bool
    strained: bool
    """A further copy would only take from others: needed loads are queued, or no machine has a processor to spare."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many copies there should be, and why."""

    copies: int
    because: str


ScalingPolicy: TypeAlias = Callable[[Demand, CoreSettings], Scale]
"""`(demand, settings) -> wanted copies`."""


def by_use(demand: Demand, settings: CoreSettings) -> Scale:
    """Grow by load, grow to two by steady use, shrink when space is short; never beyond the declared bounds."""
    most = demand.pods if demand.most is None else min(demand.most, demand.pods)
    if demand.copies > most:
        return Scale(max(most, 1), f"at most {most} are allowed")
    grown = _grow(demand, settings, most)
    if grown is not None:
        return grown
    return _shrink(demand, settings) or Scale(demand.copies, "as it is")


def _grow(demand: Demand, settings: CoreSettings, most: int) -> Scale | None:
    if demand.copies < 1 or demand.coming or demand.copies >= most or demand.strained:
        return None
    per_copy = demand.rpm / demand.copies
    if per_copy >= settings.scale_up_rpm:
        wanted = math.floor(demand.rpm / settings.scale_up_rpm) + 1
        if wanted - demand.copies > 2:  # more than two at once: no more than a third of the pods
            wanted = demand.copies + min(wanted - demand.copies, max(2, demand.pods // 3))
        return Scale(min(wanted, most), f"{per_copy:.0f} requests a minute and copy")
    if demand.copies == 1 and demand.steady and not demand.space_short:
        return Scale(2, "in steady use")
    return None


def _shrink(demand: Demand, settings: CoreSettings) -> Scale | None:
    least = max(1, demand.least)
    if demand.copies <= least or demand.coming or not demand.space_short:
        return None
    if demand.calm < settings.surplus_settle:
        return None
    if demand.copies == 2:
        if demand.idle >= settings.surplus_idle:
            return Scale(1, f"unused for {demand.idle:.0f} s and space is short")
        return None
    if demand.rpm / (demand.copies - 1) < settings.scale_up_rpm * 2 / 3:
        return Scale(demand.copies - 1, "fewer copies can carry the load and space is short")
    return None
