"""What the gates say, by figures alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dagster_shoal.gates import Champion, judge_budget, judge_champion, judge_data, judge_metrics, judge_schema
from dagster_shoal.model import Budget, DataGate, Dataset, MetricGate, Rows
from shoal.package.manifest import Signature
from support.dagster import load

ACCURACY = MetricGate("accuracy", 0.9)


def rows(values: Any, target: Any = None) -> Rows:
    array = np.asarray(values, dtype=np.float32)
    return Rows({"x": array}, np.asarray(target if target is not None else np.arange(len(array)) % 2))


def test_good_data_passes_with_its_size():
    verdict = judge_data(load(), DataGate(min_rows=20, min_class_share=0.4))
    assert verdict.passed
    assert verdict.metrics == {"train_rows": 60.0, "test_rows": 20.0}


@pytest.mark.parametrize(
    ("train", "test", "gate", "words"),
    [
        (rows([[1.0]]), rows([[1.0]] * 5), DataGate(min_rows=2), "train: 1 rows, fewer than 2"),
        (rows([[1.0], [np.nan]]), rows([[1.0]]), DataGate(), "train: input x holds 1 values that are not finite"),
        (rows([[1.0]]), rows([[9.0]]), DataGate(bounds={"x": (0, 5)}), "test: input x lies in 9..9, outside 0..5"),
        (rows([[1.0]]), rows([[1.0, 2.0]]), DataGate(), "different inputs"),
        (rows([[1.0]] * 10, [0] * 9 + [1]), rows([[1.0]]), DataGate(min_class_share=0.2), "rarest class has 10.0%"),
        (rows([[1.0]] * 3, [0, 1]), rows([[1.0]]), DataGate(), "3 rows for 2 targets"),
        (rows([]), rows([[1.0]]), DataGate(min_class_share=0.2), "train: 0 rows, fewer than 1"),
    ],
)
def test_bad_data_is_named(train: Rows, test: Rows, gate: DataGate, words: str):
    verdict = judge_data(Dataset(train, test), gate)
    assert not verdict.passed
    assert words in verdict.words


def test_a_metric_below_its_threshold_fails():
    assert judge_metrics({"accuracy": 0.9}, [ACCURACY]).passed
    verdict = judge_metrics({"accuracy": 0.89}, [ACCURACY])
    assert not verdict.passed
    assert verdict.summary == "accuracy is 0.89, below 0.9"


def test_a_metric_that_should_be_small_fails_above_its_threshold():
    gate = MetricGate("loss", 0.5, greater_is_better=False)
    assert judge_metrics({"loss": 0.5}, [gate]).passed
    assert not judge_metrics({"loss": 0.51}, [gate]).passed


@pytest.mark.parametrize("metrics", [{}, {"accuracy": float("nan")}])
def test_a_metric_that_is_missing_or_no_number_fails(metrics: dict[str, float]):
    verdict = judge_metrics(metrics, [ACCURACY])
    assert not verdict.passed
    assert "must return it" in verdict.summary


def test_without_a_champion_the_challenger_passes_and_the_reason_is_kept():
    verdict = judge_champion({"accuracy": 0.1}, Champion("nothing there"), [ACCURACY])
    assert verdict.passed
    assert verdict.summary == "nothing there"


@pytest.mark.parametrize(
    ("gate", "ours", "theirs", "passes"),
    [
        (MetricGate("m", 0, min_absolute_change=0.0), 0.9, 0.9, True),
        (MetricGate("m", 0, min_absolute_change=0.01), 0.9, 0.9, False),
        (MetricGate("m", 0, min_absolute_change=-0.05), 0.86, 0.9, True),
        (MetricGate("m", 0, min_absolute_change=-0.05), 0.84, 0.9, False),
        (MetricGate("m", 0, min_relative_change=0.1), 0.99, 0.9, False),
        (MetricGate("m", 0, min_relative_change=0.1), 1.0, 0.9, True),
        (MetricGate("m", 0, min_relative_change=0.1), 0.1, 0.0, True),
        (MetricGate("m", 9, min_absolute_change=0.0, greater_is_better=False), 0.2, 0.3, True),
        (MetricGate("m", 9, min_absolute_change=0.0, greater_is_better=False), 0.4, 0.3, False),
        (MetricGate("m", 0), 0.1, 0.9, True),
    ],
)
def test_champion_and_challenger(gate: MetricGate, ours: float, theirs: float, passes: bool):
    assert judge_champion({"m": ours}, Champion("it", {"m": theirs}), [gate]).passed is passes


def test_what_makes_a_challenger_fail_is_said_once():
    gate = MetricGate("m", 0, min_absolute_change=-0.05)
    verdict = judge_champion({"m": 0.5}, Champion("it", {"m": 0.9}), [gate])
    assert verdict.words == "champion: m 0.5 against 0.9; the change must be at least -0.05"


@pytest.mark.parametrize(
    "gate", [MetricGate("m", 0, min_absolute_change=0.0), MetricGate("m", 0, min_relative_change=0)]
)
@pytest.mark.parametrize("theirs", [{}, {"m": float("nan")}])
@pytest.mark.parametrize("ours", [{}, {"m": float("nan")}, {"m": 0.9}])
def test_what_cannot_be_compared_does_not_pass(gate: MetricGate, ours: dict[str, float], theirs: dict[str, float]):
    verdict = judge_champion(ours, Champion("it", theirs), [gate])
    assert not verdict.passed
    assert "cannot be compared; evaluate() must return m as a finite number" in verdict.words


def test_a_champion_that_could_not_be_looked_at_does_not_let_a_challenger_pass():
    verdict = judge_champion({"accuracy": 1.0}, Champion("it", unseen="the store is away"), [ACCURACY])
    assert not verdict.passed
    assert verdict.summary == "could not look: the store is away; then materialize validated_model again"


def signature(inputs: dict[str, tuple[str, list[int]]], outputs: dict[str, tuple[str, list[int]]]) -> Signature:
    def side(tensors: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
        return [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in tensors.items()]

    return Signature.model_validate({"inputs": side(inputs), "outputs": side(outputs)})


BEFORE = signature({"x": ("FP32", [-1, 4])}, {"y": ("INT64", [-1, 1])})


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"x": ("FP32", [-1, 4])}, {"y": ("INT64", [-1, 1])}, ""),
        ({"x": ("FP64", [-1, 4])}, {"y": ("INT64", [-1, 1])}, ""),
        ({"x": ("FP32", [-1, -1])}, {"y": ("INT64", [-1, 1]), "more": ("FP32", [-1])}, ""),
        ({"x": ("FP16", [-1, 4])}, {"y": ("INT64", [-1, 1])}, "input x was FP32, is FP16"),
        ({"x": ("FP32", [-1, 5])}, {"y": ("INT64", [-1, 1])}, "input x had shape [-1, 4], has [-1, 5]"),
        ({"x": ("FP32", [8, 4])}, {"y": ("INT64", [-1, 1])}, "input x had shape"),
        ({"x": ("FP32", [-1, 4]), "z": ("FP32", [-1])}, {"y": ("INT64", [-1, 1])}, "input z is new"),
        ({"x": ("FP32", [-1, 4])}, {"y": ("FP64", [-1, 1])}, "output y was INT64, is FP64"),
        ({"x": ("FP32", [-1, 4])}, {"label": ("INT64", [-1, 1])}, "output y is gone"),
    ],
)
def test_callers_of_the_serving_revision_can_go_on(inputs: Any, outputs: Any, words: str):
    verdict = judge_schema(signature(inputs, outputs), BEFORE)
    assert verdict.passed is not words
    assert verdict.passed is (words == "")
    assert words in verdict.words
    assert judge_schema(signature(inputs, outputs), BEFORE, allow_breaking=True).passed


def test_an_output_may_not_become_vaguer():
    vague = signature({"x": ("FP32", [-1, 4])}, {"y": ("INT64", [-1, -1])})
    assert not judge_schema(vague, BEFORE).passed


@pytest.mark.parametrize(
    ("size", "p99", "budget", "words"),
    [
        (10, 5.0, Budget(), ""),
        (10, None, Budget(max_bytes=10), ""),
        (11, None, Budget(max_bytes=10), "11 bytes, more than 10"),
        (1, 5.1, Budget(max_p99_ms=5), "p99 is 5.1 ms"),
        (1, None, Budget(max_p99_ms=5), "not measured"),
    ],
)
def test_budget(size: int, p99: float | None, budget: Budget, words: str):
    verdict = judge_budget(size, p99, budget)
    assert verdict.passed is (words == "")
    assert words in verdict.words


def test_verdicts_survive_being_kept():
    verdict = judge_budget(11, 1.0, Budget(max_bytes=1))
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict
    assert dataclasses.is_dataclass(ACCURACY)
