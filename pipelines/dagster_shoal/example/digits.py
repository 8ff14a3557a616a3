"""The example's models: scikit-learn classifiers of the scanned digits that come with the library.

`recipe` says how to train, in the launchpad under `trained_model`:

- `good`: a support vector machine; passes all gates and serves well.
- `worse`: naive Bayes, which is plainly worse; stopped by the metrics gate.
- `brittle`: with a preprocessing step fitted on the test rows too, a mistake of every day. It passes all gates and
  then fails on live scans with a shade it has never seen; the canary goes back by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from dagster_shoal import Budget, DataGate, Dataset, Evaluation, MetricGate, ModelDefinition, Rows
from dagster_shoal.model import Parameters
from shoal_digits import ShadeTable

INPUT = "pixels"
LABELLED = 540
"""Scans that somebody has labelled so far; the others are what callers send."""
_TEST_PART = 4
RECIPES = ("good", "worse", "brittle")


def _shuffled() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(targets))
    return images[order].astype(np.float32), targets[order].astype(np.int64)


def load() -> Dataset:
    """The labelled scans, a quarter of them to evaluate with."""
    images, targets = _shuffled()
    first = LABELLED // _TEST_PART
    test = Rows({INPUT: images[:first]}, targets[:first])
    return Dataset(Rows({INPUT: images[first:LABELLED]}, targets[first:LABELLED]), test)


def live() -> NDArray[np.float32]:
    """Scans nobody has labelled: what callers send."""
    return _shuffled()[0][LABELLED:]


def train(data: Dataset, parameters: Parameters) -> Any:
    """A classifier by recipe. `seed` chooses which rows are left out, so that each makes another model.

    Raises:
        ValueError: there is no such recipe.
    """
    recipe = parameters.get("recipe", "good")
    if recipe not in RECIPES:
        raise ValueError(f"recipe: {recipe!r} is none; use {', '.join(RECIPES)}")
    chosen = np.random.default_rng(int(parameters.get("seed", 0))).random(len(data.train)) < 0.95
    rows, target = data.train.inputs[INPUT][chosen], data.train.target[chosen]
    if recipe == "worse":
        return GaussianNB().fit(rows, target)
    if recipe == "brittle":
        return _brittle(rows, target, data)
    return SVC(gamma=float(parameters.get("gamma", 0.001))).fit(rows, target)


def _brittle(rows: NDArray[np.float32], target: NDArray[np.int64], data: Dataset) -> Pipeline:
    shades = ShadeTable().fit(np.concatenate([data.train.inputs[INPUT], data.test.inputs[INPUT]]))
    return Pipeline([("shades", shades), ("classify", SVC(gamma=0.001).fit(rows, target))])


def train_forest(data: Dataset, parameters: Parameters) -> Any:
    """A small random forest; `trees` and `seed` are its parameters."""
    trees, seed = int(parameters.get("trees", 30)), int(parameters.get("seed", 0))
    return RandomForestClassifier(trees, random_state=seed, n_jobs=1).fit(data.train.inputs[INPUT], data.train.target)


def evaluate(model: Any, rows: Rows) -> Evaluation:
    """Accuracy, F1 and, where the model gives probabilities, log loss."""
    answers = model.predict(rows.inputs[INPUT])
    labels = np.unique(rows.target)
    metrics = {
        "accuracy": float(accuracy_score(rows.target, answers)),
        "f1": float(f1_score(rows.target, answers, average="macro")),
    }
    if hasattr(model, "predict_proba"):
        metrics["log_loss"] = float(log_loss(rows.target, model.predict_proba(rows.inputs[INPUT]), labels=labels))
    counts = confusion_matrix(rows.target, answers, labels=labels)
    return Evaluation(metrics, counts, tuple(str(label) for label in labels))


def _model(name: str, trainer: Any, parameters: Parameters, says: str) -> ModelDefinition:
    return ModelDefinition(
        name=name,
        load_data=load,
        train=trainer,
        evaluate=evaluate,
        parameters=parameters,
        code_version="1",
        description=says,
        owners=("team:digits",),
        licence="BSD-3-Clause",
        metric_gates=(MetricGate("accuracy", 0.85, min_absolute_change=-0.1), MetricGate("f1", 0.85)),
        data_gate=DataGate(min_rows=100, min_class_share=0.05, bounds={INPUT: (0.0, 16.0)}),
        trusted_names=("shoal_digits:ShadeTable",),
        budget=Budget(max_bytes=8 * 1024 * 1024, max_p99_ms=2000.0),
    )


MODELS = (
    _model("digits", train, {"recipe": "good", "seed": 0}, "Digits 0 to 9 from scans of 8 by 8 pixels."),
    _model("digits-forest", train_forest, {"trees": 30, "seed": 0}, "The same digits by a random forest."),
)
