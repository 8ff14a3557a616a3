"""Trains a classifier of handwritten digits and writes it with sample requests and the answers they should get."""

import json
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

SAMPLES = 5


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    digits = load_digits()
    train, test, labels, truth = train_test_split(digits.data, digits.target, random_state=0)
    model = SVC(gamma=0.001).fit(train, labels)
    joblib.dump(model, folder / "model.joblib")
    (folder / "samples.json").write_text(json.dumps({"samples": [sample(model, row) for row in test[:SAMPLES]]}))
    print(f"written: {folder / 'model.joblib'}, {folder / 'samples.json'}; accuracy {model.score(test, truth):.3f}")


def sample(model, row) -> dict:
    pixels = {"name": "predict", "datatype": "FP32", "shape": [1, 64], "data": row.tolist()}
    answer = {"name": "predict", "datatype": "INT64", "shape": [1, 1], "data": [int(model.predict([row])[0])]}
    return {"request": {"inputs": [pixels]}, "response": {"outputs": [answer]}}


if __name__ == "__main__":
    main()
