"""`spec.canary` of an InferenceService: KServe's spelling of a canary, one entry with a share of the traffic.

The entry's predictor lies over `spec.predictor`: what it does not set stays as there. It holds its share until the
share is changed, the entry is removed (back), or its model is moved to `spec.predictor` (promoted).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from shoal.resources.modelsource import model_of
from shoal.resources.parse import problems_of
from shoal.resources.predictor import FRAMEWORKS, PREDICTOR_NAME, PredictorFields, PredictorSpec
from shoal.resources.problems import FieldProblem
from shoal.resources.shape import Shape
from shoal.resources.source import ModelSource

_AT = "spec.canary[0].predictor"
_MODELS = ("model", *FRAMEWORKS)
_PLACES = ("storage", "storageUri")


class CanaryPredictor(PredictorFields):
    """The model that takes a share of the traffic; what is not set here is as in spec.predictor."""

    name: str = Field(pattern=PREDICTOR_NAME, description="To tell it from the other predictors.")


class CanarySpec(Shape):
    """A second model and its share of the traffic."""

    predictor: CanaryPredictor
    traffic_percent: int = Field(
        ge=0, le=100, description="Percent of the requests it gets. 0: only those with the header x-shoal-canary."
    )


@dataclass(frozen=True, slots=True)
class Canary:
    """What an entry comes to."""

    percent: int
    predictor: Mapping[str, Any]
    """As it would stand in `spec.predictor`."""
    model: ModelSource


def canary_of(
    stable: PredictorSpec, entries: list[CanarySpec], notes: Mapping[str, str]
) -> tuple[Canary | None, list[FieldProblem]]:
    """The canary, if any, and what is wrong with it."""
    if not entries:
        return None, []
    problems = [*_rules(stable, entries)]
    entry = entries[0]
    merged = _over(_plain(stable), _plain(entry.predictor))
    try:
        predictor = PredictorSpec.model_validate(merged)
    except ValidationError as error:
        wrong = problems_of(PredictorSpec, error)
        return None, [*problems, *(FieldProblem(f"{_AT}.{p.path}", p.problem, p.fix) for p in wrong)]
    model, wrong = model_of(predictor, notes, _AT)
    problems += wrong
    if model is None or problems:
        return None, problems
    return Canary(entry.traffic_percent, merged, model), []


def _rules(stable: PredictorSpec, entries: list[CanarySpec]) -> list[FieldProblem]:
    found: list[FieldProblem] = []
    if len(entries) > 1:
        found.append(FieldProblem("spec.canary[1]", "only one canary at a time is possible", "keep one entry"))
    name = entries[0].predictor.name
    if name == (stable.name or ""):
        found.append(FieldProblem(f"{_AT}.name", f"{name!r} is the name of spec.predictor", "give it another"))
    return found


def _plain(predictor: PredictorFields) -> dict[str, Any]:
    return predictor.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`. Where a model or a place is named in another form, the one below counts no more."""
    if any(name in above for name in _MODELS):
        below = {name: value for name, value in below.items() if name not in _MODELS or name in above}
    if any(name in above for name in _PLACES):
        below = {name: value for name, value in below.items() if name not in _PLACES or name in above}
    merged = {**below, **above}
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            merged[name] = _over(below[name], value)
    return merged
