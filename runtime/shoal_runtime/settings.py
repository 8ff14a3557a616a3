"""The adapter's settings: environment variables under the names ModelMesh Serving sets, and a few of Shoal's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shoal_runtime.endpoints import local_target

Port = Annotated[int, Field(ge=1, le=65535)]
Bytes = Annotated[int, Field(ge=0)]


class SettingsError(ValueError):
    """An environment variable has a value that cannot be used. The message names it, what it holds and the fix."""


class AdapterSettings(BaseSettings):
    """What an adapter is told by its pod. Empty variables count as not set."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, validate_default=False)

    pod_ip: str = Field(default="127.0.0.1", validation_alias="POD_IP", min_length=1)
    """Address the adapter listens on and finds the model server at."""
    port: Port = Field(default=8085, validation_alias="ADAPTER_PORT")
    """Port of `mmesh.ModelRuntime`; `PORT` for the puller, as upstream."""
    puller_port: Port = Field(default=8086, validation_alias="PORT")
    runtime_port: Port = Field(default=8001, validation_alias="RUNTIME_PORT")
    """gRPC port of the model server's management API."""
    model_server_endpoint: str = Field(default="port:8085", validation_alias="MODEL_SERVER_ENDPOINT")
    """Where the puller's runtime answers: `port:N` or `unix:PATH`."""
    memory_bytes: Bytes | None = Field(default=None, validation_alias="CONTAINER_MEM_REQ_BYTES")
    """Memory request of the model server's container. Required, except for the puller, whose runtime says it."""
    memory_buffer_bytes: Bytes = Field(default=256 * 1024 * 1024, validation_alias="MEM_BUFFER_BYTES")
    """Part of it that models may not use."""
    loading_concurrency: int = Field(default=1, ge=1, le=256, validation_alias="LOADING_CONCURRENCY")
    load_timeout_ms: int = Field(default=30_000, ge=100, le=86_400_000, validation_alias="LOADTIME_TIMEOUT")
    default_model_bytes: int = Field(default=1_000_000, ge=1, validation_alias="DEFAULT_MODELSIZE")
    """Counted for a model of which nothing is known."""
    size_multiplier: float | None = Field(default=None, gt=0, le=1000, validation_alias="MODELSIZE_MULTIPLIER")
    """Memory over size on disk, for every format. Unset: a rule per format, see `shoal_runtime.memory`."""
    runtime_version: str | None = Field(default=None, validation_alias="RUNTIME_VERSION")
    """Unset: what the model server calls itself."""
    per_model_concurrency: int = Field(default=0, ge=0, validation_alias="LIMIT_PER_MODEL_CONCURRENCY")
    """Most requests at once for a model; 0: no limit. For upstream's mesh, which enforces it."""
    root_dir: Path = Field(default=Path("/models"), validation_alias="ROOT_MODEL_DIR")
    storage_config_dir: Path = Field(default=Path("/storage-config"), validation_alias="STORAGE_CONFIG_DIR")
    pvc_dir: Path = Field(default=Path("/pvc_mounts"), validation_alias="PVC_MOUNTS_DIR")
    cache_dir: Path | None = Field(default=None, validation_alias="MODEL_CACHE_DIR")
    cache_bytes: Bytes = Field(default=2 * 1024**3, validation_alias="MODEL_CACHE_BYTES")
    load_blocks_seconds: float = Field(default=20, gt=0, le=86_400, validation_alias="LOAD_BLOCKS_SECONDS")
    """A server that answers nothing for so long while it loads a model is ended, and the loads under way fail."""
    hang_seconds: float = Field(default=120, gt=0, le=86_400, validation_alias="HANG_SECONDS")
    """A server that answers nothing for so long is ended, whatever it does."""
    recycle_seconds: float = Field(default=80, gt=0, le=86_400, validation_alias="RECYCLE_MAX_SECONDS")
    """Longest a server that cannot be freed of a model goes on serving others, until the mesh has moved them away."""
    prestop_port: Port | None = Field(default=None, validation_alias="PRESTOP_PORT")
    """Port of `GET /prestop`; unset: not served."""
    prestop_seconds: float = Field(default=80, gt=0, le=86_400, validation_alias="PRESTOP_MAX_SECONDS")
    """Longest a preStop hook waits for the mesh; must stay below the pod's termination grace period (90 s)."""
    allow_hub_models: bool = Field(default=False, validation_alias="ALLOW_HUB_MODELS")
    """Whether a Hugging Face model may name a repository of the hub instead of files in its own folder."""

    @field_validator("model_server_endpoint")
    @classmethod
    def _known_endpoint(cls, value: str) -> str:
        local_target(value)
        return value

    @property
    def capacity_bytes(self) -> int:
        """What models may use together; never negative."""
        return max(0, (self.memory_bytes or 0) - self.memory_buffer_bytes)


def read_settings() -> AdapterSettings:
    """The settings of this process.

    Raises:
        SettingsError: a variable cannot be used; all of them are listed.
    """
    try:
        return AdapterSettings()
    except ValidationError as error:
        lines = [f"{e['loc'][0]}={e['input']!r}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None
