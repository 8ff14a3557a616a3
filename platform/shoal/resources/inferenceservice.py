"""InferenceService: a stable endpoint name and the model behind it.

The manifest is KServe's. Fields that matter for ModelMesh mode are typed; the others KServe has are accepted, and
`warn` names those that are set in vain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationError

from shoal.resources import rolloutrules
from shoal.resources.canary import Canary, CanarySpec, canary_of
from shoal.resources.isvcstatus import InferenceServiceStatus
from shoal.resources.modelsource import model_of
from shoal.resources.parse import problems_of, read, unused_fields, without_nulls
from shoal.resources.pod import Metadata
from shoal.resources.predictor import PredictorSpec
from shoal.resources.problems import FieldProblem, InvalidManifest
from shoal.resources.rollout import RolloutSpec
from shoal.resources.shape import Ignored, Shape
from shoal.resources.source import ModelSource

DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
MODEL_MESH = "ModelMesh"
_NAME = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_MAX_NAME = 200
"""Leaves room for `__isvc-<hash>` within the 253 characters of a Kubernetes name."""


class InferenceServiceSpec(Shape):
    """What to serve."""

    predictor: PredictorSpec
    transformer: Ignored = None
    explainer: Ignored = None
    rollout: RolloutSpec | None = None
    canary: list[CanarySpec] | None = Field(
        None, max_length=10, description="KServe's spelling of a canary; at most one entry."
    )


class InferenceService(Shape):
    """A stable endpoint name and the model behind it."""

    api_version: str = "serving.kserve.io/v1beta1"
    kind: str = "InferenceService"
    metadata: Metadata = Field(default_factory=Metadata)
    spec: InferenceServiceSpec
    status: InferenceServiceStatus = Field(default_factory=lambda: InferenceServiceStatus.model_validate({}))

    @property
    def name(self) -> str:
        """Its name, which requests use."""
        return self.metadata.name

    @property
    def is_ours(self) -> bool:
        """Whether it asks for ModelMesh mode."""
        return self.metadata.annotations.get(DEPLOYMENT_MODE) == MODEL_MESH

    @property
    def copies(self) -> tuple[int, int]:
        """The least and most copies of its model; a most of 0 is no limit."""
        predictor = self.spec.predictor
        return predictor.min_replicas or 0, predictor.max_replicas or 0


def shape(manifest: Mapping[str, Any]) -> InferenceService:
    """The InferenceService a manifest declares, without looking at whether its model makes sense.

    Raises:
        InvalidManifest: with every wrong field.
    """
    return read(InferenceService, {**manifest, "status": {}}, what=_what(manifest))


def parse(manifest: Mapping[str, Any]) -> tuple[InferenceService, ModelSource]:
    """The InferenceService a manifest declares and the model it names.

    Raises:
        InvalidManifest: with every wrong field.
    """
    service = shape(manifest)
    source, problems = _examined(service)
    if problems or source is None:
        raise InvalidManifest(_what(manifest), problems)
    return service, source


def parse_canary(service: InferenceService) -> Canary | None:
    """The canary of an InferenceService that was parsed; None without one."""
    return canary_of(service.spec.predictor, service.spec.canary or [], service.metadata.annotations)[0]


def validate(manifest: Mapping[str, Any]) -> list[FieldProblem]:
    """Everything wrong with a manifest. One without the ModelMesh annotation is KServe's: only its shape is checked."""
    try:
        service = InferenceService.model_validate(without_nulls(manifest))
    except ValidationError as error:
        return problems_of(InferenceService, error)
    return _examined(service)[1] if service.is_ours else []


def warn(manifest: Mapping[str, Any]) -> list[str]:
    """What is accepted and has no effect."""
    try:
        service = InferenceService.model_validate(without_nulls(manifest))
    except ValidationError:
        return []
    if not service.is_ours:
        return [why_not_ours(service)]
    return [str(problem) for problem in unused_fields(service.spec, ("spec",))]


def why_not_ours(service: InferenceService) -> str:
    """Which annotation an InferenceService lacks for Shoal to serve it."""
    mode = service.metadata.annotations.get(DEPLOYMENT_MODE)
    has = "is not set" if mode is None else f"is {mode!r}"
    return f'metadata.annotations["{DEPLOYMENT_MODE}"]: {has}; set it to {MODEL_MESH!r} to have Shoal serve this model'


def _what(manifest: Mapping[str, Any]) -> str:
    metadata = manifest.get("metadata")
    return f"InferenceService {metadata.get('name', '') if isinstance(metadata, Mapping) else ''!r}"


def _examined(service: InferenceService) -> tuple[ModelSource | None, list[FieldProblem]]:
    spec, notes = service.spec, service.metadata.annotations
    problems = list(_general(service))
    source, wrong = model_of(spec.predictor, notes, "spec.predictor")
    problems += wrong
    problems += canary_of(spec.predictor, spec.canary or [], notes)[1]
    if spec.rollout is not None:
        problems += rolloutrules.problems(spec.rollout, stepped=bool(spec.canary))
    return source, problems


def _general(service: InferenceService) -> Iterator[FieldProblem]:
    name = service.name
    if not _NAME.match(name) or len(name) > _MAX_NAME:
        yield FieldProblem(
            "metadata.name",
            f"{name[:80]!r} is not a valid name",
            f"use lower-case letters, digits and '-', start with a letter, at most {_MAX_NAME} characters",
        )
    least, most = service.copies
    if most and least > most:
        yield FieldProblem("spec.predictor.maxReplicas", f"{most} is less than minReplicas {least}", "raise it")
