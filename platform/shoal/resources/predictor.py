"""`spec.predictor` of an InferenceService: the model, in KServe's form and in the older one, and its copies."""

from __future__ import annotations

from pydantic import Field

from shoal.resources.shape import Ignored, Shape

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
PREDICTOR_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


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


class ModelOverlay(FrameworkSpec):
    """What of a model differs from another one."""

    model_format: ModelFormat | None = None
    runtime: str | None = Field(None, description="Name of the ServingRuntime to use. Default: one that fits.")


class ModelSpec(ModelOverlay):
    """The model to serve."""

    model_format: ModelFormat


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


class PredictorFields(PredictorIgnored):
    """What every predictor may have."""

    model: ModelOverlay | None = None
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


class PredictorSpec(PredictorFields):
    """The model and how many copies of it to keep."""

    name: str | None = Field(
        None, pattern=PREDICTOR_NAME, description="To tell it from the predictors of spec.canary; has no effect itself."
    )
    model: ModelSpec | None = None
