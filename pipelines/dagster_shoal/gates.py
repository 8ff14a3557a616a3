"""The gates that need nothing but figures: data, metrics, champion, schema, budget. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dagster_shoal.model import Budget, DataGate, Dataset, MetricGate, Rows
from dagster_shoal.verdicts import GateVerdict, judged, unseen
from shoal.package.manifest import Signature, TensorSpec

_WIDER: Mapping[str, frozenset[str]] = {
    "UINT8": frozenset({"UINT16", "UINT32", "UINT64", "INT16", "INT32", "INT64", "FP32", "FP64"}),
    "UINT16": frozenset({"UINT32", "UINT64", "INT32", "INT64", "FP32", "FP64"}),
    "UINT32": frozenset({"UINT64", "INT64", "FP64"}),
    "INT8": frozenset({"INT16", "INT32", "INT64", "FP32", "FP64"}),
    "INT16": frozenset({"INT32", "INT64", "FP32", "FP64"}),
    "INT32": frozenset({"INT64", "FP64"}),
    "FP16": frozenset({"FP32", "FP64"}),
    "FP32": frozenset({"FP64"}),
}
"""Datatypes that hold every value of another."""


def judge_data(data: Dataset, gate: DataGate) -> GateVerdict:
    """Whether the data is fit to train with."""
    problems: list[str] = []
    for part, rows in (("train", data.train), ("test", data.test)):
        problems += [f"{part}: {problem}" for problem in _row_problems(rows, gate)]
    if {n: t.shape[1:] for n, t in data.train.inputs.items()} != {n: t.shape[1:] for n, t in data.test.inputs.items()}:
        problems.append("training and test rows have different inputs")
    counts = np.unique(data.train.target, return_counts=True)[1] if len(data.train) else np.zeros(0)
    if gate.min_class_share > 0 and len(counts) and counts.min() < gate.min_class_share * len(data.train):
        share = counts.min() / len(data.train)
        problems.append(f"train: the rarest class has {share:.1%} of the rows, less than {gate.min_class_share:.1%}")
    rows_each = {"train_rows": float(len(data.train)), "test_rows": float(len(data.test))}
    fine = f"{len(data.train)} training and {len(data.test)} test rows are as they should be"
    return judged("data", problems, fine, metrics=rows_each)


def _row_problems(rows: Rows, gate: DataGate) -> list[str]:
    found = []
    if len(rows) < gate.min_rows:
        found.append(f"{len(rows)} rows, fewer than {gate.min_rows}")
    for name, tensor in rows.inputs.items():
        if len(tensor) != len(rows):
            found.append(f"input {name} has {len(tensor)} rows for {len(rows)} targets")
        if not np.issubdtype(tensor.dtype, np.number) or not len(tensor):
            continue
        if gate.finite and not np.isfinite(tensor).all():
            found.append(f"input {name} holds {int((~np.isfinite(tensor)).sum())} values that are not finite")
        low, high = gate.bounds.get(name, (-math.inf, math.inf))
        if tensor.min() < low or tensor.max() > high:
            found.append(f"input {name} lies in {tensor.min():g}..{tensor.max():g}, outside {low:g}..{high:g}")
    return found


def judge_metrics(metrics: Mapping[str, float], gates: Sequence[MetricGate]) -> GateVerdict:
    """Whether each metric comes up to its threshold."""
    problems = []
    for gate in gates:
        value = metrics.get(gate.metric)
        if value is None or not math.isfinite(value):
            problems.append(f"{gate.metric} is missing; evaluate() must return it as a finite number")
        elif (value < gate.threshold) if gate.greater_is_better else (value > gate.threshold):
            relation = "below" if gate.greater_is_better else "above"
            problems.append(f"{gate.metric} is {value:.4g}, {relation} {gate.threshold:g}")
    shown = ", ".join(f"{gate.metric} {metrics[gate.metric]:.4g}" for gate in gates if gate.metric in metrics)
    return judged("metrics", problems, shown or "no metric is demanded", metrics=_finite(metrics))


@dataclass(frozen=True)
class Champion:
    """The serving model, evaluated on the rows of the challenger."""

    which: str
    """In words; or why there is none."""
    metrics: dict[str, float] | None = None
    """None: there verifiably is none, unless `unseen`."""
    unseen: str = ""
    """Why it could not be looked at."""


def judge_champion(metrics: Mapping[str, float], champion: Champion, gates: Sequence[MetricGate]) -> GateVerdict:
    """Whether the challenger is as much better than the serving model as demanded, both judged on the same rows."""
    if champion.unseen:
        return unseen("champion", f"{champion.unseen}; then materialize validated_model again")
    if champion.metrics is None:
        return judged("champion", [], champion.which)
    problems: list[str] = []
    shown: list[str] = []
    figures: dict[str, float] = {}
    for gate in gates:
        ours, theirs = (each.get(gate.metric, math.nan) for each in (metrics, champion.metrics))
        said = f"{gate.metric} {ours:.4g} against {theirs:.4g}"
        if not (math.isfinite(ours) and math.isfinite(theirs)):
            if gate.min_absolute_change is not None or gate.min_relative_change is not None:
                problems.append(f"{said} cannot be compared; evaluate() must return {gate.metric} as a finite number")
            continue
        figures |= {f"challenger_{gate.metric}": ours, f"champion_{gate.metric}": theirs}
        shown.append(said)
        gain = (ours - theirs) if gate.greater_is_better else (theirs - ours)
        if gate.min_absolute_change is not None and gain < gate.min_absolute_change:
            problems.append(f"{said}; the change must be at least {gate.min_absolute_change:+g}")
        relative = gain / abs(theirs) if theirs else math.copysign(math.inf, gain) if gain else 0.0
        if gate.min_relative_change is not None and relative < gate.min_relative_change:
            problems.append(f"{said}; the change must be at least {gate.min_relative_change:+.1%}")
    return judged("champion", problems, ", ".join(shown) or "no metric is compared", metrics=_finite(figures))


def judge_schema(candidate: Signature, serving: Signature, *, allow_breaking: bool = False) -> GateVerdict:
    """Whether every caller of the serving revision can go on as before."""
    problems = [
        *_lost("input", serving.inputs, candidate.inputs, widen=True),
        *_lost("output", serving.outputs, candidate.outputs, widen=False),
    ]
    known = {tensor.name for tensor in serving.inputs}
    problems += [f"input {t.name} is new: callers do not send it" for t in candidate.inputs if t.name not in known]
    if problems and allow_breaking:
        return judged("schema", [], f"breaks callers, as allowed: {'; '.join(problems)}"[:4000])
    return judged("schema", problems, "inputs and outputs fit the serving revision's")


def _lost(kind: str, before: Sequence[TensorSpec], after: Sequence[TensorSpec], *, widen: bool) -> list[str]:
    there = {tensor.name: tensor for tensor in after}
    problems = []
    for old in before:
        new = there.get(old.name)
        if new is None:
            problems.append(f"{kind} {old.name} is gone")
            continue
        if new.datatype != old.datatype and not (widen and new.datatype in _WIDER.get(old.datatype, ())):
            problems.append(f"{kind} {old.name} was {old.datatype}, is {new.datatype}")
        # What callers send must still be taken, and what they get be what they can take.
        if not (_covers(new.shape, old.shape) if widen else _covers(old.shape, new.shape)):
            problems.append(f"{kind} {old.name} had shape {old.shape}, has {new.shape}")
    return problems


def _covers(wide: Sequence[int], narrow: Sequence[int]) -> bool:
    """Whether all arrays of the second shape are of the first."""
    return len(wide) == len(narrow) and all(w in (-1, n) for w, n in zip(wide, narrow, strict=True))


def judge_budget(size: int, p99_ms: float | None, budget: Budget) -> GateVerdict:
    """Whether a package is small and quick enough."""
    problems = []
    if budget.max_bytes is not None and size > budget.max_bytes:
        problems.append(f"its files have {size} bytes, more than {budget.max_bytes}")
    if budget.max_p99_ms is not None:
        if p99_ms is None:
            problems.append("its latency was not measured; the golden replay must run first")
        elif p99_ms > budget.max_p99_ms:
            problems.append(f"p99 is {p99_ms:.1f} ms, more than {budget.max_p99_ms:g} ms")
    measured = {"size_bytes": float(size)} | ({} if p99_ms is None else {"p99_ms": p99_ms})
    shown = f"{size} bytes" + ("" if p99_ms is None else f", p99 {p99_ms:.1f} ms")
    return judged("budget", problems, shown, metrics=measured)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
