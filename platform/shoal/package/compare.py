"""The golden check: whether a model server answers what the package says it should.

Compares two bodies of the V2 protocol tensor by tensor: whole numbers, truth values and text exactly, floating-point
numbers within a tolerance that fits their precision. Pure, so that pipelines, tests and gates judge alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shoal.oip.compare import EXACT, Tolerance, is_number
from shoal.oip.datatypes import DATATYPES
from shoal.oip.tensors import flat

MAX_DIFFERENCES: Final = 20
"""More are counted, not described."""


TOLERANCES: Final[Mapping[str, Tolerance]] = {
    "FP16": Tolerance(1e-2, 1e-3),
    "FP32": Tolerance(1e-4, 1e-5),
    "FP64": Tolerance(1e-6, 1e-8),
}
"""By datatype; those not named are compared exactly. Wide enough for another processor's order of additions."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where an answer is not what was expected."""

    output: str
    what: str
    index: int | None = None
    """Of the element, counted row by row."""

    def __str__(self) -> str:
        where = self.output if self.index is None else f"{self.output}[{self.index}]"
        return f"{where}: {self.what}"


@dataclass(frozen=True, slots=True)
class GoldenComparison:
    """How an answer compares with what was expected."""

    compared: int
    """Elements."""
    differing: int
    """Elements that differ, or whole outputs that cannot be compared."""
    greatest: float
    """Greatest absolute difference of two numbers."""
    differences: tuple[Difference, ...] = field(default=())
    """The first of them."""

    @property
    def agrees(self) -> bool:
        """Whether everything agrees."""
        return self.differing == 0

    def __str__(self) -> str:
        if self.agrees:
            return f"{self.compared} values agree (greatest difference {self.greatest:.3g})"
        first = "; ".join(str(difference) for difference in self.differences[:3])
        return f"{self.differing} of {self.compared} values differ: {first}"


def compare(
    expected: Mapping[str, Any],
    actual: Mapping[str, Any],
    tolerances: Mapping[str, Tolerance] = TOLERANCES,
) -> GoldenComparison:
    """Compare the `outputs` of two bodies. Outputs that only `actual` has are no difference.

    The expected output's datatype decides how close is close enough; another float precision in the answer is fine,
    another kind of value is not.
    """
    tally = _Tally()
    answered = _outputs(actual)
    for name, tensor in _outputs(expected).items():
        _compare_tensor(name, tensor, answered.get(name), tolerances, tally)
    return GoldenComparison(tally.compared, tally.differing, tally.greatest, tuple(tally.differences))


class _Tally:
    def __init__(self) -> None:
        self.compared = 0
        self.differing = 0
        self.greatest = 0.0
        self.differences: list[Difference] = []

    def differs(self, output: str, what: str, index: int | None = None) -> None:
        self.differing += 1
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(Difference(output, what, index))


def _outputs(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = body.get("outputs")
    outputs = found if isinstance(found, list) else []
    return {str(output.get("name")): output for output in outputs if isinstance(output, Mapping)}


def _compare_tensor(
    name: str,
    expected: Mapping[str, Any],
    actual: Mapping[str, Any] | None,
    tolerances: Mapping[str, Tolerance],
    tally: _Tally,
) -> None:
    if actual is None:
        return tally.differs(name, "is missing in the answer")
    wanted, got = str(expected.get("datatype")), str(actual.get("datatype"))
    if _kind(wanted) != _kind(got):
        return tally.differs(name, f"is {got}, expected {wanted}")
    if list(expected.get("shape") or ()) != list(actual.get("shape") or ()):
        return tally.differs(name, f"has shape {actual.get('shape')}, expected {expected.get('shape')}")
    elements, answers = list(_elements(expected)), list(_elements(actual))
    if len(elements) != len(answers):
        return tally.differs(name, f"has {len(answers)} elements, expected {len(elements)}")
    tolerance = tolerances.get(wanted, EXACT)
    for index, (element, answer) in enumerate(zip(elements, answers, strict=True)):
        _compare_element(name, index, element, answer, tolerance, tally)
    return None


def _compare_element(name: str, index: int, expected: Any, actual: Any, tolerance: Tolerance, tally: _Tally) -> None:
    tally.compared += 1
    numbers = is_number(expected) and is_number(actual)
    if numbers:
        tally.greatest = max(tally.greatest, _gap(expected, actual))
    if not tolerance.accepts(expected, actual):
        what = f"{actual!r}, expected {expected!r}" if numbers else f"{actual!r:.80}, expected {expected!r:.80}"
        tally.differs(name, what, index)


def _gap(expected: float, actual: float) -> float:
    """How far two numbers are from each other; 0 if no float says it."""
    try:
        gap = float(abs(expected - actual))
    except OverflowError:  # of whole numbers
        return 0.0
    return gap if math.isfinite(gap) else 0.0


def _elements(tensor: Mapping[str, Any]) -> Iterator[Any]:
    data = tensor.get("data")
    return flat(data) if isinstance(data, list) else iter(())


def _kind(datatype: str) -> str:
    known = DATATYPES.get(datatype)
    return "FP" if known is not None and known.floating else datatype
