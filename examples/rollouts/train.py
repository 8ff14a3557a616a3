"""Trains two versions of a small fraud model: `python train.py models` writes `v1.joblib` and `v2.joblib`."""

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    amounts = random.normal(size=(2000, 4))
    frauds = (amounts @ [2.0, -1.0, 0.5, 0.0] + random.normal(scale=0.3, size=2000) > 1).astype(int)
    joblib.dump(LogisticRegression(C=0.1).fit(amounts[:500], frauds[:500]), folder / "v1.joblib")
    joblib.dump(LogisticRegression(C=1.0).fit(amounts, frauds), folder / "v2.joblib")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models"))
