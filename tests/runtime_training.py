"""Small real models of each format, trained on scikit-learn's digits (64 pixels, 10 classes)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

PIXELS = 64


def digits() -> tuple[Any, Any]:
    data = load_digits()
    return data.data.astype(np.float32), data.target


def train_all(folder: Path) -> None:
    """Writes one model of each format and `expected.json`: rows of pixels, and what each model says of them."""
    images, labels = digits()
    rows = images[:8]
    expected: dict[str, Any] = {"rows": rows.tolist()}
    svm = SVC(gamma=0.001).fit(images[:1000], labels[:1000])
    joblib.dump(svm, folder / "mnist-svm.joblib")
    expected["sklearn"] = svm.predict(rows).tolist()
    _train_boosters(folder, images[:400], labels[:400] % 2, rows, expected)
    _convert_onnx(folder, images[:400], labels[:400], rows, expected)
    (folder / "expected.json").write_text(json.dumps(expected))


def _train_boosters(folder: Path, images: Any, labels: Any, rows: Any, expected: dict[str, Any]) -> None:
    import lightgbm
    import xgboost

    forest = xgboost.XGBRegressor(n_estimators=8, max_depth=3, n_jobs=1).fit(images, labels)
    forest.save_model(folder / "boosted.ubj")
    expected["xgboost"] = forest.predict(rows).tolist()
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(images, labels), num_boost_round=8)
    (folder / "lgb").mkdir()
    booster.save_model(folder / "lgb" / "parity.txt")
    expected["lightgbm"] = booster.predict(rows).tolist()


def _convert_onnx(folder: Path, images: Any, labels: Any, rows: Any, expected: dict[str, Any]) -> None:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    model = LogisticRegression(max_iter=200).fit(images / 16, labels)
    onnx = convert_sklearn(model, initial_types=[("pixels", FloatTensorType([None, PIXELS]))])
    (folder / "digits.onnx").write_bytes(onnx.SerializeToString())
    expected["onnx"] = model.predict(rows / 16).tolist()
