"""The table's rows and who measures them. A module adds rows by decorating a function with `measures`."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure must hold, such as `at most 45`."""

    words: str
    value: float

    def holds(self, figure: float) -> bool:
        """Whether this figure is within the limit."""
        compare = operator.le if self.words == "at most" else operator.ge
        return compare(figure, self.value)

    def __str__(self) -> str:
        return f"{self.words} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `beside` is what it was measured against, in the same run."""

    group: str
    name: str
    figure: float
    unit: str
    beside: str = ""
    limit: Limit | None = None
    spread: tuple[float, float] | None = None
    """The least and the most of the turns whose median the figure is."""

    @property
    def broken(self) -> bool:
        """It must hold and does not."""
        return self.limit is not None and not self.limit.holds(self.figure)


def of_turns(
    group: str, name: str, figures: Sequence[float], unit: str, beside: str = "", limit: Limit | None = None
) -> Row:
    """The median of what several turns measured, with their spread."""
    return Row(group, name, statistics.median(figures), unit, beside, limit, (min(figures), max(figures)))


Measurement: TypeAlias = Callable[[bool], Awaitable[list[Row]]]
"""Measures rows; the argument is True when it has to be quick."""

MEASUREMENTS: dict[str, Measurement] = {}
NEEDED: dict[str, tuple[str, ...]] = {}
"""The tools that a measurement needs."""


def measures(name: str, *needed: str) -> Callable[[Measurement], Measurement]:
    """Register a measurement under the name it is selected by; `needed` are tools it starts."""

    def register(measurement: Measurement) -> Measurement:
        MEASUREMENTS[name] = measurement
        NEEDED[name] = needed
        return measurement

    return register


def at_most(value: float) -> Limit:
    return Limit("at most", value)


def at_least(value: float) -> Limit:
    return Limit("at least", value)
