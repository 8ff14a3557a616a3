"""Trains models that hurt their server: they end it, hang it, or eat its memory, as they load or as they are asked.

Their classes travel in the file itself (by value), so that any scikit-learn server loads them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB

from e2e_models import label, samples

KINDS = (
    "ends as it loads",
    "ends at its first request",
    "ends at its 100th request",
    "hangs as it loads",
    "eats memory",
)
EXIT_CODE = 3


def train_bad(path: Path, kind: str, number: int, version: int) -> list[int]:
    """A numbered classifier (see `e2e_models`) that does its server harm. Returns its answers where it gives some."""
    digits = load_digits()
    good = GaussianNB().fit(digits.data[number % 7 :: 3], label(number, version) + digits.target[number % 7 :: 3])

    class Bad:
        """Answers as the good one does, until it does harm."""

        def __init__(self) -> None:
            self.good = good
            self.asked = 0

        def __setstate__(self, state: dict[str, Any]) -> None:
            self.__dict__.update(state)
            if kind == "ends as it loads":
                import os

                os._exit(EXIT_CODE)
            if kind == "hangs as it loads":
                import time

                time.sleep(100_000)

        def predict(self, rows: Any) -> Any:
            import os

            self.asked += 1
            if kind == "ends at its first request" or (kind == "ends at its 100th request" and self.asked >= 100):
                os._exit(EXIT_CODE)
            if kind == "eats memory":
                _ = [np.ones(1 << 20) for _ in range(4_000)]
            return self.good.predict(rows)

    buffer = io.BytesIO()
    cloudpickle.dump(Bad(), buffer)
    path.write_bytes(buffer.getvalue())
    return [int(value) for value in good.predict(samples())]
