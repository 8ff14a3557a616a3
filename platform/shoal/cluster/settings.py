"""The options of an instance, kept in its state directory so that other commands and the next start know them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shoal.cluster.layout import Layout
from shoal.durable import write_whole

NAMESPACE = "modelmesh-serving"
"""The namespace the mesh serves unless told otherwise, so that manifests written for upstream need no change."""

API_PORT = 6443
XDS_PORT = 18000
ACTIVATOR_GRPC_PORT = 18033
ACTIVATOR_HTTP_PORT = 18008
MANAGEMENT_PORT = 18034
ADMIN_PORT = 18080
"""The control plane's usual ports, all on the first address of the instance's subnet."""


class ClusterSettings(BaseModel):
    """What `shoal up` was asked for."""

    model_config = ConfigDict(frozen=True)

    state_dir: Path
    grpc_port: int = Field(default=8033, ge=1, le=65535)
    rest_port: int = Field(default=8008, ge=1, le=65535)
    gateway_host: str = "127.0.0.1"
    pods_per_runtime: int = Field(default=2, ge=1, le=100)
    pod_memory: str = "1Gi"
    namespace: str = NAMESPACE

    @property
    def layout(self) -> Layout:
        """Where everything is."""
        return Layout(self.state_dir)

    def save(self) -> None:
        """Remember these options.

        Raises:
            OSError: the file cannot be written.
        """
        write_whole(self.layout.settings, (self.model_dump_json(indent=2) + "\n").encode(), 0o600)


def load_settings(state_dir: Path) -> ClusterSettings | None:
    """The options of the last `shoal up` on a state directory; None if there was none."""
    try:
        text = Layout(state_dir).settings.read_text()
        # The directory may have been moved since.
        return ClusterSettings.model_validate_json(text).model_copy(update={"state_dir": state_dir})
    except (OSError, ValidationError):
        return None
