"""How much memory models take: predicted from their format and size on disk, then corrected by real growth.

Upstream counts 1.25 times the size on disk for everything, which is off by up to a hundred times for small ONNX models
and twice for LightGBM. Pure computation; `processes` reads the numbers.
"""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Final

from shoal_runtime.servers import Format, Rule

KIB: Final = 1024


OTHER: Final = Rule(8 * KIB, 1.25)
MIN_SHARE: Final = 0.5
"""Growth below this share of the rule's prediction is not believed: freed memory was used again."""
_BELIEVED: Final = 5
"""Measurements kept of a revision. Each is off by what else happened in the process meanwhile: requests that were
answered, memory that a load takes only for a moment (for scikit-learn as much again as the model)."""
_LEARN_FROM_BYTES: Final = 256 * KIB
"""Smaller models say nothing about a format: the allocator's steps are larger than they are."""
_LEARN_AFTER: Final = 3
_LEARN_FROM: Final = 25
"""Newest loads of a format that its factor is learned from."""
_LEARN_RATE: Final = 0.2
_RATIO_BOUNDS: Final = (0.5, 20.0)
_REMEMBERED: Final = 10_000


class SizeBook:
    """What is known about sizes: per revision as measured, per format as learned, else by rule."""

    def __init__(self, default_bytes: int, formats: Mapping[str, Format], multiplier: float | None = None) -> None:
        self._default = default_bytes
        self._formats = formats
        self._multiplier = multiplier
        self._measured: OrderedDict[str, deque[int]] = OrderedDict()
        self._ratios: dict[str, deque[float]] = {}
        self._averages: dict[str, float] = {}

    def predict(self, model_id: str, model_format: str, disk_bytes: int | None) -> int:
        """Bytes the model will take; `disk_bytes` None: not known yet."""
        if (measured := self._measured.get(model_id)) is not None:
            return statistics.median_low(measured)
        if disk_bytes is None:
            return int(self._averages.get(model_format, self._default))
        ratios = self._ratios.get(model_format, ())
        ratio = statistics.median_low(ratios) if len(ratios) >= _LEARN_AFTER else 1.0
        return int(self._rule(model_format).bytes(disk_bytes) * ratio)

    def weigh(self, model_id: str, model_format: str, disk_bytes: int, grown_bytes: int) -> int:
        """Bytes to count a model with, whose load let the process grow so much: the middle of what was measured.

        Growth that is too small to be believed says nothing; then it is what is predicted.
        """
        if grown_bytes >= self._rule(model_format).bytes(disk_bytes) * MIN_SHARE:
            self.learn(model_id, model_format, disk_bytes, max(1, grown_bytes))
        return max(1, self.predict(model_id, model_format, disk_bytes))

    def learn(self, model_id: str, model_format: str, disk_bytes: int, size_bytes: int) -> None:
        """Notes what a model was measured to take."""
        self._measured.setdefault(model_id, deque(maxlen=_BELIEVED)).append(size_bytes)
        self._measured.move_to_end(model_id)
        while len(self._measured) > _REMEMBERED:
            self._measured.popitem(last=False)
        average = self._averages.get(model_format, float(size_bytes))
        self._averages[model_format] = average + _LEARN_RATE * (size_bytes - average)
        expected = self._rule(model_format).bytes(disk_bytes)
        if max(expected, size_bytes) >= _LEARN_FROM_BYTES:
            ratio = min(max(size_bytes / max(expected, 1), _RATIO_BOUNDS[0]), _RATIO_BOUNDS[1])
            self._ratios.setdefault(model_format, deque(maxlen=_LEARN_FROM)).append(ratio)

    def _rule(self, model_format: str) -> Rule:
        if self._multiplier is not None:
            return Rule(0, self._multiplier)
        known = self._formats.get(model_format)
        return known.memory if known is not None and known.memory is not None else OTHER


class GrowthMeter:
    """Shares out a process's growth among the loads under way, in proportion to what each was predicted to take.

    Growth between two events (a load begins or ends) belongs to the loads under way between them; shrinking belongs to
    unloads and is left out.
    """

    def __init__(self) -> None:
        self._expected: dict[str, int] = {}
        self._grown: dict[str, float] = {}
        self._last: int | None = None

    def begin(self, model_id: str, expected_bytes: int, process_bytes: int | None) -> None:
        """A load begins; the process uses so much now (None: not known)."""
        self._share(process_bytes)
        self._expected[model_id] = max(1, expected_bytes)
        self._grown[model_id] = 0.0

    def end(self, model_id: str, process_bytes: int | None) -> int | None:
        """A load ended. Returns the growth it caused; None: not known."""
        self._share(process_bytes)
        self._expected.pop(model_id, None)
        grown = self._grown.pop(model_id, None)
        if not self._expected:
            self._last = None
        return None if process_bytes is None or grown is None else int(grown)

    def _share(self, process_bytes: int | None) -> None:
        if process_bytes is not None and self._last is not None and process_bytes > self._last:
            total = sum(self._expected.values())
            for model_id, expected in self._expected.items():
                self._grown[model_id] += (process_bytes - self._last) * expected / total
        if process_bytes is not None:
            self._last = process_bytes
