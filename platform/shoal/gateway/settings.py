"""What a gateway and its control need to be told: addresses, limits and waits."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

_LOOPBACK = "127.0.0.1"
MIB = 1024 * 1024
_MAX_DEFAULT_WORKERS = 4


class Address(BaseModel):
    """A host (an IP address) and a TCP port."""

    model_config = ConfigDict(frozen=True)

    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)


def _local(port: int) -> Address:
    return Address(host=_LOOPBACK, port=port)


class GatewaySettings(BaseModel):
    """Everything that shapes the gateway; the defaults are those of an embedded cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node_id: str = "gateway"
    grpc: Address = _local(8033)
    """Where clients send gRPC."""
    rest: Address = _local(8008)
    """Where clients send REST."""
    xds: Address = _local(18000)
    """Where the mesh serves routes (delta xDS) and hears of usage and of requests in a rollout (ALS)."""
    activator_grpc: Address = _local(18033)
    activator_http: Address = _local(18008)
    management: Address = _local(18034)
    admin_socket: Path | None = None
    """Unix socket of Envoy's own admin API, at most 107 bytes long; None: there is none."""
    access_log: Path | None = None
    """File that gets one JSON object a request; None: no access log."""
    per_model_metrics: bool = False
    """Whether requests are counted for each model on its own."""
    concurrency: int | None = Field(default=None, ge=1, le=256)
    """Worker threads; None: one a processor, but at most four. Each can do 20,000 requests/s."""

    max_message_bytes: int = Field(default=16 * MIB, ge=1024, le=1024 * MIB)
    """Largest request, and largest REST answer that is converted from gRPC."""
    max_headers_kib: int = Field(default=60, ge=1, le=8192)
    max_connections: int = Field(default=10_000, ge=1)
    """Client connections; more are refused."""
    max_streams: int = Field(default=1024, ge=1, le=2**31 - 1)
    """Requests at a time on one HTTP/2 connection; clients hold back the rest."""
    max_requests_per_pod: int = Field(default=65_536, ge=1, le=2**32 - 1)
    """Requests in flight to one pod, or to a set of pods. It bounds memory; model servers queue, and deadlines end
    waiting."""
    request_timeout: float = Field(default=300.0, gt=0)
    """Seconds a request without a deadline of its own may take, loading the model included."""
    connect_timeout: float = Field(default=1.0, gt=0)
    """Seconds to connect to a model server."""
    idle_timeout: float = Field(default=120.0, gt=0)
    """Seconds until an unused connection to a model server is closed."""
    retries: int = Field(default=8, ge=1, le=50)
    """Attempts after the first, the activator's included: with growing waits, about ten seconds in all."""

    usage_interval: float = Field(default=1.0, gt=0)
    """Seconds between two reports of usage."""
    ack_timeout: float = Field(default=5.0, gt=0)
    """Seconds a gateway may take to accept a change before it is cut off."""
    withdrawn_seconds: float = Field(default=60.0, gt=0)
    """How long at least gateways keep the cluster of a pod or a rollout that no route leads to any more.

    A request whose copy fails is tried again by the cluster it went to, so that must outlast such requests.
    """
    max_withdrawn_clusters: int = Field(default=2000, ge=0)
    """Such clusters kept at most; the oldest are removed early."""
    max_http_routes: int = Field(default=1000, ge=0)
    max_revision_routes: int = Field(default=1000, ge=0)

    @property
    def workers(self) -> int:
        """How many worker threads there are. The machine has others to run: model servers most of all."""
        return self.concurrency or min(os.cpu_count() or 1, _MAX_DEFAULT_WORKERS)
