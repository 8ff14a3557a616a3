"""ServingRuntime and ClusterServingRuntime: templates of pods that serve some model formats."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from shoal.resources.pod import Container, EnvVar, LocalObjectReference, Metadata, Volume
from shoal.resources.shape import Ignored, Opaque, Shape


class SupportedModelFormat(Shape):
    """A model format the runtime can load."""

    name: str = Field(min_length=1, description="Name of the format, such as sklearn.")
    version: str | None = Field(
        None, description='Version of the format, in quotes. "1" also serves models that ask for "1.15".'
    )
    auto_select: bool | None = Field(
        None, description="Whether models that name no runtime may be given to this one. Default: false."
    )
    priority: int | None = Field(
        None, ge=1, le=2**31 - 1, description="Of several runtimes that fit equally well the highest is taken."
    )


class StorageHelper(Shape):
    """How model files come to the pod when the runtime has no built-in adapter."""

    disabled: bool = Field(False, description="True: the runtime gets the path as declared and fetches files itself.")


class BuiltInAdapter(Shape):
    """The adapter that loads and unloads models in a known model server."""

    server_type: str = Field("", description="Such as mlserver; one container must have this name.")
    runtime_management_port: int = Field(0, ge=0, le=65535, description="Port of the model server's repository API.")
    mem_buffer_bytes: int = Field(
        0, ge=0, description="Part of the container's memory request that models may not use."
    )
    model_loading_timeout_millis: int = Field(0, ge=0, description="How long one load may take. 0: the default.")
    env: list[EnvVar] = Field(default_factory=list, description="Overrides or adds variables of the adapter.")


class ServingRuntimeSpec(Shape):
    """What the pods of this runtime look like and which models they can serve."""

    supported_model_formats: list[SupportedModelFormat] = Field(
        default_factory=list, description="The model formats this runtime can load."
    )
    multi_model: bool | None = Field(
        None, description="Must be true: the runtime loads and unloads many models. Others are left to KServe."
    )
    disabled: bool | None = Field(None, description="True: no pods, and no model is given to it.")
    protocol_versions: list[str] = Field(
        default_factory=list, description="Inference protocols it speaks: v1, v2, grpc-v1, grpc-v2."
    )
    containers: list[Container] = Field(description="The containers of a pod; one is the model server.")
    volumes: list[Volume] = Field(default_factory=list)
    node_selector: dict[str, str] = Field(default_factory=dict)
    affinity: Opaque | None = None
    tolerations: list[Opaque] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the pods.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the pods.")
    image_pull_secrets: list[LocalObjectReference] = Field(default_factory=list)
    grpc_endpoint: str | None = Field(
        None,
        description="Where the runtime manages models (mmesh.ModelRuntime): port:8085, or unix:/path.",
        examples=["port:8085"],
    )
    grpc_data_endpoint: str | None = Field(
        None, description="Where the model server answers gRPC, such as port:8001.", examples=["port:8001"]
    )
    http_data_endpoint: str | None = Field(
        None, description="Where the model server answers REST, such as port:8002.", examples=["port:8002"]
    )
    replicas: int | None = Field(
        None, ge=0, le=65535, description="Number of pods. Default: podsPerRuntime of model-serving-config."
    )
    storage_helper: StorageHelper | None = None
    built_in_adapter: BuiltInAdapter | None = None
    host_ipc: Ignored = Field(None, alias="hostIPC")
    scheduler_name: Ignored = None
    resource_claims: Ignored = None
    worker_spec: Ignored = None


class ServingRuntime(Shape):
    """Template of a pod that can serve some model formats. Many models share each pod."""

    model_config = ConfigDict(json_schema_extra={"required": ["spec"]})

    api_version: str = "serving.kserve.io/v1alpha1"
    kind: str = "ServingRuntime"
    metadata: Metadata = Field(default_factory=Metadata)
    spec: ServingRuntimeSpec
    status: Opaque = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name

    @property
    def cluster_wide(self) -> bool:
        """Whether it is a ClusterServingRuntime."""
        return self.kind == "ClusterServingRuntime"

    @property
    def multi_model(self) -> bool:
        """Whether Shoal runs it at all."""
        return self.spec.multi_model is True
