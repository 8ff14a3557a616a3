"""What a user says about a model: plain functions that load data, train and evaluate, and what it must come up to.

Nothing here knows Dagster, so these functions are tested and used without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME_RULE = "use lower-case letters, digits and '-', start with a letter, at most 63 characters"

Tensors: TypeAlias = Mapping[str, NDArray[Any]]
"""Named arrays with one row a request: inputs or outputs of a model as the Open Inference Protocol names them."""
Parameters: TypeAlias = Mapping[str, Any]

Gate = Literal["data", "metrics", "champion", "schema", "scan", "signature", "golden-replay", "budget"]
GATES: tuple[Gate, ...] = ("data", "metrics", "champion", "schema", "scan", "signature", "golden-replay", "budget")
"""What is checked before a model is published, named as the evidence it leaves."""


@dataclass(frozen=True)
class Rows:
    """Examples: what goes in and what ought to come out."""

    inputs: Tensors
    target: NDArray[Any]

    def __len__(self) -> int:
        return len(self.target)

    def head(self, count: int) -> Rows:
        """The first `count` examples."""
        return Rows({name: tensor[:count] for name, tensor in self.inputs.items()}, self.target[:count])


@dataclass(frozen=True)
class Dataset:
    """Examples to train with and, apart from them, to evaluate with."""

    train: Rows
    test: Rows


@dataclass(frozen=True)
class Evaluation:
    """How good a model is, and how that looks."""

    metrics: Mapping[str, float]
    confusion: NDArray[Any] | None = None
    """Counts by true class (rows) and answered class (columns)."""
    labels: tuple[str, ...] = ()
    curves: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """Plots by title: x and y."""


@dataclass(frozen=True)
class MetricGate:
    """What a metric must come up to; the words are those of MLflow's `MetricThreshold`.

    `min_absolute_change` and `min_relative_change` are against the serving model (the champion): at least so much
    better; negative: at most so much worse; None: not compared.
    """

    metric: str
    threshold: float
    min_absolute_change: float | None = None
    min_relative_change: float | None = None
    greater_is_better: bool = True


@dataclass(frozen=True)
class DataGate:
    """What training data must come up to."""

    min_rows: int = 1
    """Of each, training and test."""
    finite: bool = True
    """No NaN, no infinity."""
    min_class_share: float = 0.0
    """Smallest part of the training rows any class may have, 0 to 1; 0: targets are not classes, or any will do."""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest value by name of input."""


@dataclass(frozen=True)
class Budget:
    """What a model may cost. None: anything."""

    max_bytes: int | None = None
    """Of all its files."""
    max_p99_ms: float | None = None
    """Of the answers to its sample inputs, one at a time, by the real model server through the gateway."""


def save_joblib(model: Any, folder: Path) -> None:
    """Keep a fitted estimator as the stock scikit-learn runtime expects it."""
    import joblib

    joblib.dump(model, folder / "model.joblib")


def load_joblib(folder: Path) -> Any:
    """What `save_joblib` kept."""
    import joblib

    return joblib.load(folder / "model.joblib")


def predict_sklearn(model: Any, inputs: Tensors) -> dict[str, NDArray[Any]]:
    """Answer as the stock scikit-learn runtime does: one input tensor, one output named `predict`, in columns."""
    (rows,) = inputs.values()
    answers = np.asarray(model.predict(rows))
    return {"predict": answers[:, None] if answers.ndim == 1 else answers}


class Trainer(Protocol):
    """Trains in a process of its own instead of calling a function, or fetches what was trained elsewhere."""

    def run(self, context: Any, *, data: Path, into: Path, parameters: Parameters) -> Mapping[str, Any]:
        """Write the files that a model server loads.

        Args:
            context: of the asset (`dagster.AssetExecutionContext`).
            data: the training data, as `datafiles.save_dataset` writes it.
            into: an empty folder for the files.
            parameters: as `train` gets them.

        Returns:
            What to show on the asset.
        """


def no_function(*_: Any) -> Any:
    """Stands where a model that has a `Trainer` needs no `train`.

    Raises:
        TypeError: always.
    """
    raise TypeError("train: this model has a trainer of its own; call that")


@dataclass(frozen=True)
class ModelDefinition:
    """A model: how it comes to be, and what it must come up to before it may serve.

    `load_data`, `train` and `evaluate` get the parameters of the run (the launchpad's over `parameters`).
    """

    name: str
    """Of the model, its packages and, unless `endpoint` says otherwise, its InferenceService."""
    load_data: Callable[[], Dataset]
    train: Callable[[Dataset, Parameters], Any]
    evaluate: Callable[[Any, Rows], Evaluation]
    trainer: Trainer | None = None
    """Used instead of `train` and `save` where given; `train` may be `no_function` then."""
    save: Callable[[Any, Path], None] = save_joblib
    """Writes the files that a model server loads into an empty folder."""
    load: Callable[[Path], Any] = load_joblib
    predict: Callable[[Any, Tensors], Mapping[str, NDArray[Any]]] = predict_sklearn
    """What the model server is expected to answer; the golden set is made with it."""
    format: str = "sklearn"
    """As `modelFormat.name`."""
    format_version: str = ""
    runtime: str = ""
    """A ServingRuntime by name; empty: whichever serves the format."""
    replay_runtime: str = ""
    """The one for the golden replay, where `runtime` demands evidence that only the replay gives; empty: `runtime`."""
    endpoint: str = ""
    parameters: Parameters = field(default_factory=dict)
    code_version: str = ""
    """Changes when the functions do; the UI marks what was made by older code."""
    description: str = ""
    owners: tuple[str, ...] = ()
    """As Dagster has them: `team:fraud` or `ann@example.com`."""
    licence: str = ""
    gates: tuple[Gate, ...] = GATES
    metric_gates: tuple[MetricGate, ...] = ()
    data_gate: DataGate = DataGate()
    budget: Budget = Budget()
    samples: int = 16
    """Test rows that make the golden set."""
    tolerance: float = 1e-6
    """Relative difference between expected and served numbers that still counts as the same."""
    trusted_names: tuple[str, ...] = ()
    """Names such as `ours.steps:Scaler` that its pickles may refer to, beyond those that models are known to need."""
    allow_breaking: bool = False
    """Let inputs and outputs change in ways that break callers of the serving revision."""

    def __post_init__(self) -> None:
        for field_name, value in (("name", self.name), ("endpoint", self.service)):
            if not _NAME.fullmatch(value):
                raise ValueError(f"{field_name}: {value!r} names no InferenceService; {_NAME_RULE}")
        if unknown := set(self.gates) - set(GATES):
            raise ValueError(f"gates: {sorted(unknown)} are none; use {', '.join(GATES)}")
        if not 1 <= self.samples <= 1000:
            raise ValueError(f"samples: {self.samples} is not between 1 and 1000")

    @property
    def service(self) -> str:
        """Name of the InferenceService."""
        return self.endpoint or self.name


Catalogue: TypeAlias = Callable[[str], ModelDefinition]
"""Finds a model by its name, which is its partition key. Raises KeyError for a name it does not know."""
