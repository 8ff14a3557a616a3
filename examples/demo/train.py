"""Trains the demo's models: real scikit-learn classifiers on the digits that come with the library.

Model `n` answers `digit + 100 * n`, so that every answer shows which model it came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.svm import SVC

TREES = 30
"""About 4 MB a model, loaded as on disk."""


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model: where it is, and what it answers to the rows of `samples`."""

    name: str
    path: Path
    expected: tuple[int, ...]


def samples(count: int = 16) -> np.ndarray:
    """Digits to ask about: `count` rows of 64 numbers."""
    return load_digits().data[:count].astype(np.float32)


def train_svm(path: Path) -> None:
    """The classifier of the getting-started example: one digit in, one digit out."""
    digits = load_digits()
    joblib.dump(SVC(gamma=0.001).fit(digits.data, digits.target), path)


def train(number: int, folder: Path, version: int = 1) -> Model:
    """Train model `number` and store it in `folder`. Another version answers 50 more."""
    digits = load_digits()
    offset = 100 * number + 50 * (version - 1)
    forest = ExtraTreesClassifier(n_estimators=TREES, random_state=number * 10 + version)
    forest.fit(digits.data, digits.target + offset)
    path = folder / f"digits-{number:02}-v{version}.joblib"
    joblib.dump(forest, path)
    return Model(f"digits-{number:02}", path, tuple(int(answer) for answer in forest.predict(samples())))
