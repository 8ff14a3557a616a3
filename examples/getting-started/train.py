"""Trains a classifier of handwritten digits and writes `mnist-svm.joblib` (or the path given) for the guide."""

import sys

import joblib
from sklearn.datasets import load_digits
from sklearn.svm import SVC


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "mnist-svm.joblib"
    digits = load_digits()
    joblib.dump(SVC(gamma=0.001).fit(digits.data, digits.target), path)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
