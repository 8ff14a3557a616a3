"""The kinds Shoal defines, as an API server needs them: names, table columns, schema and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shoal.resources import inferenceservice, runtimerules, servingruntime
from shoal.resources.namedruntime import warn_of_runtime
from shoal.resources.problems import FieldProblem
from shoal.resources.schema import openapi_schema

GROUP = "serving.kserve.io"
Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`, after NAME. As in Kubernetes a path that finds several values shows the first."""

    name: str
    type: str
    json_path: str
    priority: int = 0
    """Columns above 0 are only shown by `-o wide`."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    namespaced: bool
    columns: tuple[Column, ...]
    schema: dict[str, Any]
    """OpenAPI v3, structural, of the whole object."""
    validate: Callable[[Manifest], list[FieldProblem]]
    """Everything wrong with an object, unknown fields included. Empty: accepted."""
    warn: Callable[[Manifest], list[str]]
    """What is accepted and has no effect, for `Warning` headers. Call it on valid objects."""
    has_status: bool = True
    warn_of_runtime: Callable[[Manifest, Iterable[Manifest]], list[str]] | None = None
    """What does not fit the runtime that a valid object names, given all of them."""


_READY = ".status.conditions[?(@.type=='Ready')].status"
_AGE = Column("Age", "date", ".metadata.creationTimestamp")

_SERVICE_COLUMNS = (
    Column("URL", "string", ".status.url"),
    Column("Ready", "string", _READY),
    Column("State", "string", ".status.modelStatus.states.activeModelState", 1),
    Column("Transition", "string", ".status.modelStatus.transitionStatus", 1),
    Column("Rollout", "string", ".status.rollout.phase", 1),
    Column("Copies", "integer", ".status.modelStatus.copies.totalCopies", 1),
    Column("Runtime", "string", ".status.servingRuntimeName", 1),
    Column("Revision", "string", ".status.modelRevisionName", 1),
    _AGE,
)
_RUNTIME_COLUMNS = (
    Column("Disabled", "boolean", ".spec.disabled"),
    Column("ModelType", "string", ".spec.supportedModelFormats[*].name"),
    Column("Containers", "string", ".spec.containers[*].name"),
    Column("Ready", "string", _READY),
    Column("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason"),
    _AGE,
)


def _runtime(kind: str, *, namespaced: bool) -> Kind:
    return Kind(
        group=GROUP,
        version="v1alpha1",
        kind=kind,
        plural=f"{kind.lower()}s",
        singular=kind.lower(),
        short_names=(),
        namespaced=namespaced,
        columns=_RUNTIME_COLUMNS,
        schema=openapi_schema(servingruntime.ServingRuntime, GROUP, "v1alpha1", kind),
        validate=runtimerules.validate,
        warn=runtimerules.warn,
    )


KINDS: tuple[Kind, ...] = (
    Kind(
        group=GROUP,
        version="v1beta1",
        kind="InferenceService",
        plural="inferenceservices",
        singular="inferenceservice",
        short_names=("isvc",),
        namespaced=True,
        columns=_SERVICE_COLUMNS,
        schema=openapi_schema(inferenceservice.InferenceService, GROUP, "v1beta1", "InferenceService"),
        validate=inferenceservice.validate,
        warn=inferenceservice.warn,
        warn_of_runtime=warn_of_runtime,
    ),
    _runtime("ServingRuntime", namespaced=True),
    _runtime("ClusterServingRuntime", namespaced=False),
)


def kind_named(name: str) -> Kind:
    """The kind of this name.

    Raises:
        KeyError: Shoal does not define it.
    """
    for kind in KINDS:
        if kind.kind == name:
            return kind
    raise KeyError(name)


def printer_columns(name: str) -> tuple[Column, ...]:
    """The columns of `kubectl get` for the kind of this name."""
    return kind_named(name).columns


def openapi_schemas() -> dict[str, dict[str, Any]]:
    """Schemas of all kinds, by kind."""
    return {kind.kind: kind.schema for kind in KINDS}
