"""InferenceService: a stable endpoint name and the model behind it.

The manifest is KServe's. Fields that matter for ModelMesh mode are typed; the others KServe has are accepted, and
`warn` names those that are set in vain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from shoal.resources.parse import problems_of, read, unused_fields, without_nulls
from shoal.resources.pod import Metadata
from shoal.resources.problems import FieldProblem, InvalidManifest
from shoal.resources.shape import Ignored, Shape
from shoal.resources.source import ModelSource, SourceParts, resolve

DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
MODEL_MESH = "ModelMesh"
SECRET_KEY = "serving.kserve.io/secretKey"
SCHEMA_PATH = "serving.kserve.io/schemaPath"
SERVING_RUNTIME = "serving.kserve.io/servingRuntime"
FRAMEWORKS = (
    "xgboost",
    "lightgbm",
    "sklearn",
    "tensorflow",
    "onnx",
    "pytorch",
    "triton",
    "pmml",
    "huggingface",
    "paddle",
)
"""Legacy blocks under `spec.predictor`, in upstream's order of preference (the last two are KServe's later ones)."""
_NAME = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_MAX_NAME = 200
"""Leaves room for `__isvc-<hash>` within the 253 characters of a Kubernetes name."""


class ModelFormat(Shape):
    """What kind of model it is."""

    name: str = Field(min_length=1, description="Such as sklearn, xgboost, lightgbm, onnx.")
    version: str | None = Field(None, description='Version of the format, in quotes, such as "1".')


class StorageSpec(Shape):
    """Where the model's files are."""

    key: str | None = Field(None, description="Name of an entry in the Secret storage-config.")
    path: str | None = Field(None, description="Path of the model file or directory within the storage.")
    schema_path: str | None = Field(None, description="Path of a JSON file with the model's inputs and outputs.")
    parameters: dict[str, str] | None = Field(
        None, description="Override fields of the storage-config entry, such as bucket; type and name for a PVC."
    )


class ContainerFields(Shape):
    """Fields of a container that KServe allows in a model block; the runtime's container is used instead."""

    name: Ignored = None
    image: Ignored = None
    command: Ignored = None
    args: Ignored = None
    working_dir: Ignored = None
    env: Ignored = None
    env_from: Ignored = None
    ports: Ignored = None
    resources: Ignored = None
    resize_policy: Ignored = None
    restart_policy: Ignored = None
    volume_mounts: Ignored = None
    volume_devices: Ignored = None
    liveness_probe: Ignored = None
    readiness_probe: Ignored = None
    startup_probe: Ignored = None
    lifecycle: Ignored = None
    termination_message_path: Ignored = None
    termination_message_policy: Ignored = None
    image_pull_policy: Ignored = None
    security_context: Ignored = None
    stdin: Ignored = None
    stdin_once: Ignored = None
    tty: Ignored = None


class FrameworkSpec(ContainerFields):
    """The legacy form: the key of the block names the model format."""

    storage_uri: str | None = Field(None, description="Such as s3://bucket/path, pvc://claim/path, https://host/file.")
    storage: StorageSpec | None = None
    protocol_version: str | None = Field(None, description="Protocol the runtime must speak, such as grpc-v2.")
    runtime_version: Ignored = None


class ModelSpec(FrameworkSpec):
    """The model to serve."""

    model_format: ModelFormat
    runtime: str | None = Field(None, description="Name of the ServingRuntime to use. Default: one that fits.")


class PredictorIgnored(Shape):
    """What KServe allows in a predictor and one-pod-per-model serving needs; here pods are the runtime's."""

    active_deadline_seconds: Ignored = None
    affinity: Ignored = None
    annotations: Ignored = None
    automount_service_account_token: Ignored = None
    auto_scaling: Ignored = None
    batcher: Ignored = None
    canary_traffic_percent: Ignored = None
    container_concurrency: Ignored = None
    containers: Ignored = None
    deployment_strategy: Ignored = None
    dns_config: Ignored = None
    dns_policy: Ignored = None
    enable_service_links: Ignored = None
    ephemeral_containers: Ignored = None
    host_aliases: Ignored = None
    host_ipc: Ignored = Field(None, alias="hostIPC")
    host_network: Ignored = None
    host_pid: Ignored = Field(None, alias="hostPID")
    host_users: Ignored = None
    hostname: Ignored = None
    image_pull_secrets: Ignored = None
    init_containers: Ignored = None
    labels: Ignored = None
    logger: Ignored = None
    node_name: Ignored = None
    node_selector: Ignored = None
    os: Ignored = None
    overhead: Ignored = None
    preemption_policy: Ignored = None
    priority: Ignored = None
    priority_class_name: Ignored = None
    readiness_gates: Ignored = None
    resource_claims: Ignored = None
    resources: Ignored = None
    restart_policy: Ignored = None
    runtime_class_name: Ignored = None
    scale_metric: Ignored = None
    scale_metric_type: Ignored = None
    scale_target: Ignored = None
    scheduler_name: Ignored = None
    scheduling_gates: Ignored = None
    security_context: Ignored = None
    service_account: Ignored = None
    service_account_name: Ignored = None
    set_hostname_as_fqdn: Ignored = Field(None, alias="setHostnameAsFQDN")
    share_process_namespace: Ignored = None
    subdomain: Ignored = None
    termination_grace_period_seconds: Ignored = None
    timeout: Ignored = None
    tolerations: Ignored = None
    topology_spread_constraints: Ignored = None
    volumes: Ignored = None
    worker_spec: Ignored = None


class PredictorSpec(PredictorIgnored):
    """The model and how many copies of it to keep."""

    model: ModelSpec | None = None
    min_replicas: int | None = Field(
        None, ge=0, description="Copies kept loaded at any time. Default 0: it may be evicted, and loads on request."
    )
    max_replicas: int | None = Field(None, ge=0, description="Most copies there may be. Default 0: no limit.")
    xgboost: FrameworkSpec | None = None
    lightgbm: FrameworkSpec | None = None
    sklearn: FrameworkSpec | None = None
    tensorflow: FrameworkSpec | None = None
    onnx: FrameworkSpec | None = None
    pytorch: FrameworkSpec | None = None
    triton: FrameworkSpec | None = None
    pmml: FrameworkSpec | None = None
    huggingface: FrameworkSpec | None = None
    paddle: FrameworkSpec | None = None


class InferenceServiceSpec(Shape):
    """What to serve."""

    predictor: PredictorSpec
    transformer: Ignored = None
    explainer: Ignored = None
    canary: Ignored = None


class ModelStates(Shape):
    """States of the revision that serves and of the one that shall replace it."""

    model_config = ConfigDict(extra="allow")

    active_model_state: str = Field("", description="Pending, Standby, Loading, Loaded or FailedToLoad.")
    target_model_state: str = Field("", description="The same for the next revision; empty when there is none.")


class ModelCopies(Shape):
    """How many copies of the active revision there are."""

    model_config = ConfigDict(extra="allow")

    total_copies: int = 0
    failed_copies: int = 0


class FailureInfo(Shape):
    """The newest failure of the target revision."""

    model_config = ConfigDict(extra="allow")

    location: str = Field("", description="Pod it happened in.")
    reason: str = ""
    message: str = ""
    model_revision_name: str = ""
    time: str = ""


class ModelStatus(Shape):
    """How the model stands."""

    model_config = ConfigDict(extra="allow")

    transition_status: str = Field("", description="UpToDate, InProgress, BlockedByFailedLoad or InvalidSpec.")
    states: ModelStates = Field(default_factory=lambda: ModelStates.model_validate({}))
    copies: ModelCopies = Field(default_factory=lambda: ModelCopies.model_validate({}))
    last_failure_info: FailureInfo = Field(default_factory=lambda: FailureInfo.model_validate({}))


class Condition(Shape):
    """One condition, such as Ready."""

    model_config = ConfigDict(extra="allow")

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class InferenceServiceStatus(Shape):
    """Written by Shoal."""

    model_config = ConfigDict(extra="allow")

    url: str = Field("", description="Address of the gateway's gRPC endpoint within the cluster.")
    conditions: list[Condition] = Field(default_factory=list)
    model_status: ModelStatus = Field(default_factory=lambda: ModelStatus.model_validate({}))
    model_revision_name: str = Field("", description="The revision that serves.")
    serving_runtime_name: str = Field("", description="The ServingRuntime chosen for it.")
    cluster_serving_runtime_name: str = ""
    observed_generation: int = 0


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
    problems = list(_general(service))
    parts = _parts(service, problems)
    if parts is None:
        return None, problems
    source, wrong = resolve(parts)
    return source, [*problems, *wrong]


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


def _parts(service: InferenceService, problems: list[FieldProblem]) -> SourceParts | None:
    """The fields that name the model, from whichever form is used."""
    predictor, notes = service.spec.predictor, service.metadata.annotations
    used = [name for name in FRAMEWORKS if getattr(predictor, name) is not None]
    pinned = notes.get(SERVING_RUNTIME)
    if predictor.model is None and not used:
        problems.append(FieldProblem("spec.predictor", "names no model", "add model with modelFormat and storage"))
        return None
    if predictor.model is not None and used:
        fix = "keep model, remove the other"
        problems.append(FieldProblem(f"spec.predictor.{used[0]}", "cannot stand beside spec.predictor.model", fix))
    problems += (
        FieldProblem(f"spec.predictor.{name}", f"cannot stand beside spec.predictor.{used[0]}", "keep one of them")
        for name in used[1:]
    )
    if (model := predictor.model) is not None:
        if pinned is not None:
            where = f'metadata.annotations["{SERVING_RUNTIME}"]'
            fix = "use spec.predictor.model.runtime"
            problems.append(FieldProblem(where, "cannot be used with spec.predictor.model", fix))
        form, block = model.model_format, "spec.predictor.model"
        return _from_block(model, block, form.name, form.version, model.runtime, notes)
    legacy: FrameworkSpec = getattr(predictor, used[0])
    return _from_block(legacy, f"spec.predictor.{used[0]}", used[0], None, pinned, notes)


def _from_block(
    block: FrameworkSpec, path: str, form: str, version: str | None, runtime: str | None, notes: Mapping[str, str]
) -> SourceParts:
    storage = block.storage or StorageSpec.model_validate({})
    return SourceParts(
        block=path,
        format=form,
        version=version,
        runtime=runtime,
        protocol=block.protocol_version,
        uri=block.storage_uri,
        key=storage.key if storage.key is not None else notes.get(SECRET_KEY),
        path=storage.path,
        schema_path=storage.schema_path if storage.schema_path is not None else notes.get(SCHEMA_PATH),
        parameters=storage.parameters or {},
    )
