"""The ConfigMap `model-serving-config`: settings of the whole mesh under the key `config.yaml`.

As upstream: keys are case-insensitive, the user's ConfigMap is merged over `model-serving-config-defaults`, that over
the defaults here, and a wrong one changes nothing. Upstream logged what was wrong; here every wrong field is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from shoal.resources.parse import read
from shoal.resources.pod import EnvVar, LocalObjectReference, ResourceRequirements
from shoal.resources.problems import FieldProblem, InvalidManifest
from shoal.resources.runtimerules import server_types
from shoal.resources.shape import Opaque, Shape

CONFIG_KEY = "config.yaml"
USER_CONFIG = "model-serving-config"
FACTORY_CONFIG = "model-serving-config-defaults"

WITHOUT_EFFECT: Mapping[str, str] = {
    "modelMeshImage": "no pod has a ModelMesh container",
    "modelMeshResources": "no pod has a ModelMesh container",
    "builtInServerTypes": "runtimes whose builtInAdapter names another serverType than mlserver get no pods",
    "payloadProcessors": "payloads are sent nowhere; enableAccessLogging logs requests without them",
    "allowAnyPVC": "the embedded cluster shows every claim to every pod, so models may use any",
    "internalModelMeshEnvVars": "there is no ModelMesh process that would read them",
    "etcdSecretName": "the registry is chosen when the mesh is started",
    "modelMeshEndpoint": "the controller and the mesh are one process",
}
"""Keys that are accepted, so that upstream's ConfigMaps apply as they are, and why they change nothing."""


def _no_spaces(uri: str) -> str:
    if " " in uri:
        raise PydanticCustomError("payload_processor", "must be one URI without spaces")
    return uri


class ImageSettings(Shape):
    """An image; `digest` wins over `tag`."""

    name: str = ""
    tag: str = ""
    digest: str = ""
    command: list[str] = Field(default_factory=list)

    @property
    def reference(self) -> str:
        """As a container's `image`."""
        if self.digest:
            return f"{self.name}@{self.digest}"
        return f"{self.name}:{self.tag}" if self.tag else self.name


class TLSSettings(Shape):
    """TLS of the gateway."""

    secret_name: str = ""
    client_auth: str = ""


class MetricsSettings(Shape):
    """Prometheus metrics of the mesh."""

    enabled: bool = True
    port: int = Field(default=2112, ge=1, le=65535)
    scheme: Literal["http", "https"] = "http"
    per_model: bool = False
    disable_prometheus_operator_support: bool = False


class ScaleToZeroSettings(Shape):
    """Whether runtimes without InferenceServices keep their pods."""

    enabled: bool = True
    grace_period_seconds: int = Field(default=60, ge=0)


class RestSettings(Shape):
    """REST, which is always on; of upstream's proxy settings only the port counts."""

    enabled: bool = True
    port: int = Field(default=8008, ge=1, le=65535)
    skip_verify: bool = False
    image: Opaque | None = None
    resources: Opaque | None = None


def _helper_resources() -> ResourceRequirements:
    return ResourceRequirements(
        requests={"cpu": "50m", "memory": "96Mi"}, limits={"cpu": "2", "memory": "512Mi"}, claims=None
    )


class ModelServingConfig(Shape):
    """Settings of the whole mesh."""

    inference_service_name: str = Field("modelmesh-serving", min_length=1, max_length=40)
    inference_service_port: int = Field(8033, ge=1, le=65535)
    headless_service: bool = True
    pods_per_runtime: int = Field(2, ge=0, le=1000)
    storage_secret_name: str = "storage-config"
    tls: TLSSettings = TLSSettings()
    enable_access_logging: bool = False
    service_account_name: str = ""
    metrics: MetricsSettings = MetricsSettings()
    scale_to_zero: ScaleToZeroSettings = ScaleToZeroSettings()
    grpc_max_message_size_bytes: int = Field(16777216, ge=1024, le=1 << 30)
    rest_proxy: RestSettings = RestSettings()
    model_mesh_image: Opaque | None = None
    model_mesh_resources: Opaque | None = None
    storage_helper_image: ImageSettings = ImageSettings(name="shoal", tag="latest")
    storage_helper_resources: ResourceRequirements = Field(default_factory=_helper_resources)
    built_in_server_types: list[str] = Field(default_factory=lambda: list(server_types()))
    payload_processors: list[Annotated[str, AfterValidator(_no_spaces)]] = Field(default_factory=list)
    runtime_pod_labels: dict[str, str] = Field(default_factory=dict)
    runtime_pod_annotations: dict[str, str] = Field(default_factory=dict)
    image_pull_secrets: list[LocalObjectReference] = Field(default_factory=list)
    allow_any_pvc: bool = Field(False, alias="allowAnyPVC")
    internal_model_mesh_env_vars: list[EnvVar] = Field(default_factory=list)
    etcd_secret_name: str = ""
    model_mesh_endpoint: str = ""


def config_from(*layers: Mapping[str, Any] | None) -> ModelServingConfig:
    """The settings from ConfigMap manifests, weakest first; absent ones are None.

    Raises:
        InvalidManifest: with every wrong field.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merged(merged, _spelled(ModelServingConfig, _document(layer)))
    return read(ModelServingConfig, merged, what="the configuration")


def without_effect(manifest: Mapping[str, Any]) -> list[str]:
    """What to tell who set keys that change nothing. A ConfigMap that is wrong has other problems: then nothing."""
    try:
        given = _spelled(ModelServingConfig, _document(manifest))
    except InvalidManifest:
        return []
    return [f"{key} has no effect: {why}" for key, why in WITHOUT_EFFECT.items() if key in given]


def _document(manifest: Mapping[str, Any] | None) -> Mapping[str, Any]:
    name = ((manifest or {}).get("metadata") or {}).get("name", USER_CONFIG)
    text = ((manifest or {}).get("data") or {}).get(CONFIG_KEY) or ""
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        where = f'data["{CONFIG_KEY}"]'
        raise InvalidManifest(f"ConfigMap {name!r}", [FieldProblem(where, f"is not YAML: {error}")]) from None
    if not isinstance(document, dict):
        where = f'data["{CONFIG_KEY}"]'
        raise InvalidManifest(f"ConfigMap {name!r}", [FieldProblem(where, "must be a mapping of settings")])
    return document


def _spelled(model: type[BaseModel], document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with keys in the model's spelling; unknown keys stay, to be reported."""
    fields = {(info.alias or name).lower(): info for name, info in model.model_fields.items()}
    spelled: dict[str, Any] = {}
    for key, value in document.items():
        info = fields.get(str(key).lower())
        if info is None:
            spelled[str(key)] = value
            continue
        part = info.annotation
        nested = isinstance(part, type) and issubclass(part, BaseModel) and isinstance(value, Mapping)
        spelled[str(info.alias)] = _spelled(part, value) if nested else value  # type: ignore[arg-type]
    return spelled


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
