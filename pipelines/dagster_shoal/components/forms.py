"""Parts of `defs.yaml` that are the same as something in Python, so that each is described once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

import dagster as dg
from dagster import ResolutionContext
from dagster_shoal.config import RolloutConfig, rollout_form
from dagster_shoal.model import Budget, DataGate, MetricGate
from dagster_shoal.resource import ShoalResource
from dagster_shoal.strategy import sound

T = TypeVar("T")
STRICT = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
"""A template that is filled in with digits gives a number."""
_NOT_A_DEFAULT = ("version", "run", "reason")
"""Fields of a rollout that only make sense for one."""


def form_of(config: type[BaseModel], name: str, leave_out: tuple[str, ...] = ()) -> type[BaseModel]:
    """A plain model with the fields of another, for the schema of YAML."""
    fields: dict[str, Any] = {
        key: (field.annotation, field) for key, field in config.model_fields.items() if key not in leave_out
    }
    return create_model(name, __config__=STRICT, __doc__=config.__doc__, **fields)


def plain(context: ResolutionContext, value: Any) -> Any:
    """What a part of the YAML says, templates filled in, without what it does not say.

    Texts without a template stay as they are: resolving them also reads them as Python, and makes "3" a number.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, Mapping):
        return {key: plain(context, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(context, each) for each in value]
    return value if isinstance(value, str) and "{{" not in value else context.resolve_value(value)


def _version(context: ResolutionContext, value: str) -> str:
    return str(plain(context, value))


Version: TypeAlias = Annotated[
    str,
    dg.Resolver(
        _version,
        model_field_type=str,
        description="A text, so put numbers in quotes.",
        inject_before_resolve=False,
    ),
]


def words_of(error: ValidationError, prefix: str) -> str:
    """The first problem, by field."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in (prefix, *first["loc"]) if part != "")
    return f"{where}: {first['msg']}"


def validated(kind: type[T] | Any, value: Any, field: str) -> T:
    """A value of a type.

    Raises:
        ValueError: it does not fit; the message names the field.
    """
    try:
        found: T = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(words_of(error, field)) from None
    return found


def _rollout(context: ResolutionContext, value: Any) -> type[RolloutConfig]:
    given: Mapping[str, Any] = plain(context, value)
    checked: BaseModel = validated(RolloutForm, given, "rollout")
    try:
        return sound(rollout_form(**checked.model_dump(exclude_unset=True)))
    except ValueError as error:
        raise ValueError(f"rollout.{error}") from None


def _shoal(context: ResolutionContext, value: Any) -> ShoalResource:
    checked: BaseModel = validated(ShoalForm, plain(context, value), "cluster")
    return ShoalResource(**checked.model_dump(exclude_unset=True))


RolloutForm = form_of(RolloutConfig, "RolloutForm", _NOT_A_DEFAULT)
ShoalForm = form_of(ShoalResource, "ShoalForm")

RolloutChoice: TypeAlias = Annotated[
    type[RolloutConfig],
    dg.Resolver(
        _rollout, model_field_type=RolloutForm, description="How versions take over; the launchpad's defaults."
    ),
]
# Dagster wants to derive a form from the type itself, which resources with bounds on their fields do not let it.
ClusterChoice: TypeAlias = Annotated[
    Any,
    dg.Resolver(_shoal, model_field_type=ShoalForm, description="The cluster, with the fields of ShoalResource."),
]
MetricGates: TypeAlias = Annotated[
    tuple[MetricGate, ...],
    dg.Resolver(
        lambda context, value: validated(
            tuple[MetricGate, ...], [plain(context, each) for each in value], "metric_gates"
        ),
        model_field_type=list[MetricGate],
        description="What metrics must come up to.",
    ),
]
DataGateChoice: TypeAlias = Annotated[
    DataGate,
    dg.Resolver(
        lambda context, value: validated(DataGate, _as_mapping(context, value), "data_gate"),
        model_field_type=DataGate,
        description="What training data must come up to.",
    ),
]
BudgetChoice: TypeAlias = Annotated[
    Budget,
    dg.Resolver(
        lambda context, value: validated(Budget, _as_mapping(context, value), "budget"),
        model_field_type=Budget,
        description="What a model may cost.",
    ),
]


def _as_mapping(context: ResolutionContext, value: Any) -> Any:
    return plain(context, value) if isinstance(value, Mapping) else value
