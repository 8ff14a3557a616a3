"""What the controller is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HelperPorts:
    """Ports in a runtime pod that no manifest names."""

    prestop: int = 8090
    """The adapter's `/prestop`, `/readyz` and `/healthz`."""
    puller: int = 8086
    metrics: int = 8082
    """MLServer's own metrics."""


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Where the API is, and how the mesh it controls is reached."""

    namespace: str = "modelmesh-serving"
    kubeconfig: Path | None = None
    """None: from within a pod."""
    admin_address: str = ""
    """Such as `http://127.64.1.1:18080`: told to the embedded API server's Service proxy. Empty on a cluster."""
    admin_port: int = 18080
    helper_ports: HelperPorts = HelperPorts()
    claims_always_mounted: bool = False
    """The kubelet shows every PersistentVolumeClaim in every pod (embedded mode), so Deployments need not name them."""
    claims: Path | None = None
    """The folder with one folder a PersistentVolumeClaim (embedded mode), to look into packages on them."""
    sole_mesh: bool = False
    """No other mesh uses this API (embedded mode): InferenceServices of other namespaces are told that nobody serves
    them."""
    cluster_runtimes: bool = True
    """Whether ClusterServingRuntimes count; False where the controller may only see its namespace."""
