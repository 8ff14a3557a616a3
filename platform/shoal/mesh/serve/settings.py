"""Everything about a mesh process that can be set, with units and reasons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shoal.gateway.settings import Address, GatewaySettings


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate and its private key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """Settings of one mesh process. Durations in seconds, sizes in bytes."""

    registry: str = "memory:"
    """Where durable records live: `sqlite:PATH`, or `memory:` for tests."""
    host: str = "127.0.0.1"
    """Address every port below is bound to."""
    xds_port: int = 18000
    activator_grpc_port: int = 18033
    activator_http_port: int = 18008
    management_port: int = 18034
    admin_port: int = 18080
    max_message_bytes: int = 16 * 1024 * 1024
    """Upstream's `grpcMaxMessageSizeBytes`."""
    max_wait: float = 120.0
    """Longest wait of a cold request without a deadline of its own. Longer than a model load usually takes (90 s)."""
    max_concurrent_requests: int = 4096
    """Cold requests and management calls at a time; more are refused with RESOURCE_EXHAUSTED."""
    forward_attempts: int = 4
    """How many copies a cold request is tried on before its last error is returned, pods that are gone not counted."""
    drain_quiet: float = 0.1
    """After every gateway acknowledged a withdrawal: how long a request that was on its way may still arrive at a model
    server that does not wait for its requests itself."""
    pod_lost_after: float = 20.0
    """An adapter that cannot be reached for so long, on a pod that still exists, counts as lost."""
    recovery_grace: float = 10.0
    """After a restart, how long known pods may take to report before gateways get a route table without them."""
    usage_flush_interval: float = 30.0
    """How often last uses are made durable. A crash forgets at most so much of the order of eviction."""
    shutdown_grace: float = 10.0
    """How long requests under way may take when the process is asked to stop."""
    metrics_port: int | None = None
    """Port that serves nothing but `/metrics`; None: they are at the admin port only."""
    metrics_tls: TlsFiles | None = None
    """Of that port; None: plain HTTP."""
    per_model_metrics: bool = False
    """Adds `modelId` and `vModelId` labels (ModelMesh: `per_model_metrics`). Off, for thousands of models are many."""

    @property
    def ports(self) -> tuple[int, ...]:
        """What is listened on from the start, at `host`; gateways are let in later."""
        return (self.activator_grpc_port, self.activator_http_port, self.management_port, self.admin_port)

    @property
    def of_gateways(self) -> GatewaySettings:
        """What gateways need to know of this mesh; listeners and files are each gateway's own."""

        def at(port: int) -> Address:
            return Address(host=self.host, port=port)

        return GatewaySettings(
            xds=at(self.xds_port),
            activator_grpc=at(self.activator_grpc_port),
            activator_http=at(self.activator_http_port),
            management=at(self.management_port),
            max_message_bytes=self.max_message_bytes,
        )
