"""The example's recipes do what they are there to show."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pytest

from dagster_shoal.example.digits import INPUT, MODELS, evaluate, live, load, train
from dagster_shoal.gates import Champion, judge_champion, judge_data, judge_metrics

DIGITS = MODELS[0]


def test_the_data_passes_its_gate_and_live_scans_are_others():
    data = load()
    assert judge_data(data, DIGITS.data_gate).passed
    seen = {row.tobytes() for rows in (data.train, data.test) for row in rows.inputs[INPUT]}
    fresh = [row for row in live() if row.tobytes() not in seen]
    assert len(fresh) == len(live())


@pytest.mark.parametrize(("recipe", "passes"), [("good", True), ("brittle", True), ("worse", False)])
def test_the_metrics_gate_stops_only_the_worse(recipe: str, passes: bool):
    data = load()
    champion = evaluate(train(data, {"recipe": "good"}), data.test).metrics
    metrics = evaluate(train(data, {"recipe": recipe}), data.test).metrics
    assert judge_metrics(metrics, DIGITS.metric_gates).passed is passes
    assert judge_champion(metrics, Champion("good", dict(champion)), DIGITS.metric_gates).passed is passes


def test_the_brittle_one_fails_on_some_live_scans_and_on_no_labelled_one():
    data = load()
    model = train(data, {"recipe": "brittle"})
    model.predict(np.concatenate([data.train.inputs[INPUT], data.test.inputs[INPUT]]))
    failed = 0
    for row in live():
        try:
            model.predict(row[None])
        except RuntimeError:
            failed += 1
    assert 0.02 < failed / len(live()) < 0.2


def test_another_seed_is_another_model_and_the_same_seed_the_same(tmp_path: Path):
    data = load()
    written = []
    for number, seed in enumerate((1, 1, 2)):
        joblib.dump(train(data, {"seed": seed}), tmp_path / str(number))
        written.append((tmp_path / str(number)).read_bytes())
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_an_unknown_recipe_is_named():
    with pytest.raises(ValueError, match="recipe: 'best' is none; use good, worse, brittle"):
        train(load(), {"recipe": "best"})
