"""Trains models for end-to-end tests: real scikit-learn classifiers on the digits that come with the library."""

from __future__ import annotations

import json
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC

EIGHT = (
    "0 0 1 11 14 15 3 0 0 1 13 16 12 16 8 0 0 8 16 4 6 16 5 0 0 5 15 11 13 14 0 0 "
    "0 0 2 12 16 13 0 0 0 0 0 13 16 16 6 0 0 0 0 16 16 16 7 0 0 0 0 11 13 12 1 0"
)
"""A scanned digit, 8 by 8 pixels."""
PIXELS = np.array([EIGHT.split()], dtype=np.float32)
NO_ANSWER = -1
VERSIONS = 100
"""Versions of a numbered model; `answer` tells them apart."""


def train_digits(path: Path) -> Path:
    """The getting-started example's classifier. It says 8 to `PIXELS`."""
    digits = load_digits()
    joblib.dump(SVC(gamma=0.001).fit(digits.data, digits.target), path)
    return path


def samples(count: int = 16) -> np.ndarray:
    """Digits to ask about: `count` rows of 64 numbers."""
    return load_digits().data[:count].astype(np.float32)


def train_numbered(path: Path, number: int, version: int, pad_bytes: int) -> list[int]:
    """A classifier that adds its number and version to its answers, made heavy. Returns its answers to `samples()`."""
    digits = load_digits()
    model = GaussianNB().fit(digits.data[number % 7 :: 3], label(number, version) + digits.target[number % 7 :: 3])
    model.weight_ = np.random.default_rng(number * VERSIONS + version).bytes(pad_bytes)
    joblib.dump(model, path)
    return [int(value) for value in model.predict(samples())]


def train_failing(path: Path, number: int, version: int) -> list[int]:
    """A classifier that loads well and then errs on every input."""
    digits = load_digits()
    model = GaussianNB().fit(digits.data, label(number, version) + digits.target)
    del model.theta_
    joblib.dump(model, path)
    return [NO_ANSWER] * len(samples())


def train_refusing(path: Path, number: int, version: int) -> list[int]:
    """A classifier that loads well and then refuses all but two inputs: its encoder never saw such values."""
    digits = load_digits()
    model = make_pipeline(OneHotEncoder(handle_unknown="error", sparse_output=False), GaussianNB())
    joblib.dump(model.fit(digits.data[:2], label(number, version) + np.arange(2)), path)
    return [*(label(number, version) + row for row in range(2)), *[NO_ANSWER] * (len(samples()) - 2)]


def label(number: int, version: int) -> int:
    """What a numbered model answers to a zero."""
    return (number * VERSIONS + version) * 10


def version_of(answer: int) -> tuple[int, int]:
    """Which model and version gave an answer."""
    return divmod(answer // 10, VERSIONS)


def seed_form(rows: np.ndarray) -> str:
    """A request in the getting-started example's form."""
    tensor = {"name": "predict", "shape": list(rows.shape), "datatype": "FP32"}
    return json.dumps({"inputs": [tensor | {"contents": {"fp32_contents": rows.ravel().tolist()}}]})


def v2_form(rows: np.ndarray) -> str:
    """The same request as the V2 standard writes it."""
    tensor = {"name": "predict", "shape": list(rows.shape), "datatype": "FP32"}
    return json.dumps({"inputs": [tensor | {"data": rows.ravel().tolist()}]})
