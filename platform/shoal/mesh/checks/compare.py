"""Compares two answers to one inference request: what a shadowed revision would have said against what was said.

Outputs are matched by name; names of models, versions, ids and parameters do not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from shoal.oip.answers import Output, Outputs
from shoal.oip.compare import EXACT, Tolerance
from shoal.oip.datatypes import DATATYPES

FLOATS: Final = Tolerance(relative=1e-3, absolute=1e-5)
"""Of floating-point numbers: another build of the same library or another batch size moves the last digits."""
MAX_SCORES: Final = 64
"""Numbers of one answer that count for the drift of scores."""


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """How two answers differ, and the numbers in them."""

    difference: str
    """Where they differ first; empty if they agree."""
    active_scores: tuple[float, ...]
    target_scores: tuple[float, ...]

    @property
    def agree(self) -> bool:
        """Whether there is no difference."""
        return not self.difference


def compare(active: Outputs, target: Outputs) -> ShadowComparison:
    """Compare the answers of the active revision and the target."""
    return ShadowComparison(_difference(active, target), _scores(active), _scores(target))


def _difference(active: Outputs, target: Outputs) -> str:
    if active.keys() != target.keys():
        return f"outputs {', '.join(sorted(active))} became {', '.join(sorted(target)) or 'none'}"
    for name, was in active.items():
        now = target[name]
        if was.datatype != now.datatype:
            return f"output {name}: datatype {was.datatype} became {now.datatype}"
        if was.shape != now.shape:
            return f"output {name}: shape {list(was.shape)} became {list(now.shape)}"
        if not _same(was, now):
            return f"output {name}: other values"
    return ""


def _same(was: Output, now: Output) -> bool:
    if len(was.values) != len(now.values):
        return False
    if was.datatype != "BOOL" and was.values == now.values:  # true equals 1, but is not the same
        return True
    datatype = DATATYPES.get(was.datatype)
    tolerance = FLOATS if datatype is not None and datatype.floating else EXACT
    return all(map(tolerance.accepts, was.values, now.values))


def _scores(outputs: Outputs) -> tuple[float, ...]:
    values = chain.from_iterable(output.values for _, output in sorted(outputs.items()) if output.datatype != "BYTES")
    numbers = map(_number, islice(values, MAX_SCORES))
    return tuple(number for number in numbers if number is not None and math.isfinite(number))


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:  # JSON knows integers of any size
        return None
