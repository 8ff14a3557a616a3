"""The parts of a Kubernetes pod that a ServingRuntime carries: enough shape to check and to hand on."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from shoal.resources.shape import Opaque, Quantity, Shape


class FieldRef(Shape):
    """A field of the pod itself."""

    field_path: str = Field(description="Such as metadata.name or status.podIP.")
    api_version: str | None = None


class ResourceFieldRef(Shape):
    """A request or limit of a container of the pod."""

    resource: str = Field(description="Such as requests.memory.")
    container_name: str | None = None
    divisor: Quantity | None = None


class KeyRef(Shape):
    """A key of a ConfigMap or a Secret in the same namespace."""

    key: str
    name: str = ""
    optional: bool | None = None


class EnvVarSource(Shape):
    """Where the value of an environment variable comes from."""

    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None
    file_key_ref: Opaque | None = None


class EnvVar(Shape):
    """One environment variable."""

    name: str = Field(min_length=1)
    value: str | None = Field(None, description="A string; $(NAME) refers to variables defined before.")
    value_from: EnvVarSource | None = None


class ContainerPort(Shape):
    """A port a container listens on."""

    container_port: int = Field(ge=1, le=65535)
    name: str | None = None
    protocol: str | None = None
    host_port: int | None = None
    host_ip: str | None = Field(None, alias="hostIP")


class VolumeMount(Shape):
    """Where a volume of the pod appears in a container."""

    name: str
    mount_path: str
    read_only: bool | None = None
    sub_path: str | None = None
    sub_path_expr: str | None = None
    mount_propagation: str | None = None
    recursive_read_only: str | None = None


class ResourceRequirements(Shape):
    """What a container asks for and may use at most."""

    requests: dict[str, Quantity] = Field(default_factory=dict)
    limits: dict[str, Quantity] = Field(default_factory=dict)
    claims: list[Opaque] | None = None


class Container(Shape):
    """A container, as in core/v1."""

    name: str = Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    image: str | None = Field(None, description="Where the container's program comes from.")
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str | None = None
    env: list[EnvVar] = Field(default_factory=list)
    env_from: list[Opaque] | None = None
    ports: list[ContainerPort] = Field(default_factory=list)
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    resize_policy: list[Opaque] | None = None
    restart_policy: str | None = None
    volume_mounts: list[VolumeMount] = Field(default_factory=list)
    volume_devices: list[Opaque] | None = None
    liveness_probe: Opaque | None = None
    readiness_probe: Opaque | None = Field(None, description="Set by Shoal; must be absent.")
    startup_probe: Opaque | None = None
    lifecycle: Opaque | None = Field(None, description="Set by Shoal; must be absent.")
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    image_pull_policy: str | None = None
    security_context: Opaque | None = None
    stdin: bool | None = None
    stdin_once: bool | None = None
    tty: bool | None = None


class Volume(Shape):
    """A volume of the pod. Its source is handed on as it is."""

    name: str
    empty_dir: Opaque | None = None
    config_map: Opaque | None = None
    secret: Opaque | None = None
    persistent_volume_claim: Opaque | None = None
    host_path: Opaque | None = None
    projected: Opaque | None = None
    csi: Opaque | None = None
    downward_api: Opaque | None = Field(None, alias="downwardAPI")
    ephemeral: Opaque | None = None
    nfs: Opaque | None = None
    image: Opaque | None = None


class LocalObjectReference(Shape):
    """The name of an object in the same namespace."""

    name: str = ""


class Metadata(Shape):
    """Metadata of an object. Only what Shoal reads is looked at; the API server owns the rest."""

    model_config = ConfigDict(extra="ignore")

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    generation: int = 0
    uid: str = ""


__all__ = [
    "Container",
    "ContainerPort",
    "EnvVar",
    "EnvVarSource",
    "FieldRef",
    "KeyRef",
    "LocalObjectReference",
    "Metadata",
    "ResourceFieldRef",
    "ResourceRequirements",
    "Volume",
    "VolumeMount",
]
