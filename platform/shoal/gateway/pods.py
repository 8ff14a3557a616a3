"""Clusters that belong to pods: every model on a pod shares its connections.

A pod has a cluster for each protocol. Copies of one model on several pods have a cluster for that set of pods, as long
as each of them is in few sets; where it is not, requests are divided over the pods' own clusters instead. So the number
of connections to a pod does not depend on the number of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from google.protobuf import json_format

from shoal.gateway import names
from shoal.gateway.clusters import common_fields, serialized, set_address
from shoal.gateway.counting import host_name
from shoal.gateway.filters import copy_filters
from shoal.gateway.protocols import Upstream
from shoal.gateway.retries import retry_elsewhere
from shoal.gateway.settings import Address, GatewaySettings
from shoal_protos.xds import cluster_pb2, typed_struct_pb2

MAX_SETS: Final = 3
"""Sets a pod is in at most. A cluster has one connection to each of its pods for each worker, and one more where large
messages come: with four workers a pod has at most (1 + 3) * 2 * 4 connections for gRPC."""


@dataclass(frozen=True, slots=True, order=True)
class Server:
    """A pod's model server, for one protocol."""

    host: str
    port: int
    runtime: str
    pod: str

    @property
    def name(self) -> str:
        """Tells it from all others."""
        return f"{self.pod}@{self.host}:{self.port}" if self.pod else f"{self.host}:{self.port}"


def servers(upstreams: Iterable[Upstream], *, http: bool) -> tuple[Server, ...]:
    """Where copies are; all have a port for the protocol.

    Raises:
        ValueError: one has no HTTP port.
    """
    found = set()
    for upstream in upstreams:
        port = upstream.http_port if http else upstream.grpc_port
        if port is None:
            raise ValueError(f"the copy of {upstream.revision} at {upstream.host} has no HTTP port")
        found.add(Server(upstream.host, port, upstream.runtime, upstream.pod))
    return tuple(sorted(found))


class PodClusters:
    """Names and builds such clusters, for one protocol; knows in how many sets each pod is."""

    def __init__(self, settings: GatewaySettings, *, http: bool) -> None:
        self._http = http
        self._activator = settings.activator_http if http else settings.activator_grpc
        self._template = _template(settings, http=http)
        self._sets: dict[Server, set[str]] = {}

    def choose(self, copies: Sequence[Server]) -> dict[str, tuple[Server, ...]]:
        """The clusters to divide requests over, by name: one if that is possible, else one for each pod."""
        if len(copies) == 1:
            return {self._of_pod(copies[0]): (copies[0],)}
        text = " ".join(server.name for server in copies)
        name = f"set{self._infix}:{blake2b(text.encode(), digest_size=8).hexdigest()}"
        if all(name in used or len(used) < MAX_SETS for used in (self._sets.get(server, set()) for server in copies)):
            return {name: tuple(copies)}
        return {self._of_pod(server): (server,) for server in copies}

    def built(self, name: str, copies: Sequence[Server]) -> bytes:
        """The serialized `envoy.config.cluster.v3.Cluster`: the pods first, the activator as their fallback."""
        cluster = cluster_pb2.Cluster(name=name)
        assignment = cluster.load_assignment
        assignment.cluster_name = name
        locality = assignment.endpoints.add()
        locality.load_balancing_weight.value = 1
        for server in copies:
            endpoint = locality.lb_endpoints.add()
            set_address(endpoint, Address(host=server.host, port=server.port))
            if server.pod:
                endpoint.endpoint.hostname = host_name(server.runtime, server.pod)
        fallback = assignment.endpoints.add(priority=1)
        fallback.load_balancing_weight.value = 1
        set_address(fallback.lb_endpoints.add(), self._activator)
        return serialized(cluster) + self._template

    def appeared(self, name: str, copies: Sequence[Server]) -> None:
        """Gateways are to have this cluster."""
        if len(copies) > 1:
            for server in copies:
                self._sets.setdefault(server, set()).add(name)

    def vanished(self, name: str, copies: Sequence[Server]) -> None:
        """Gateways are to have this cluster no more."""
        if len(copies) > 1:
            for server in copies:
                self._sets[server].discard(name)
                if not self._sets[server]:
                    del self._sets[server]

    @property
    def _infix(self) -> str:
        return "-http" if self._http else ""

    def _of_pod(self, server: Server) -> str:
        return f"pod{self._infix}:{server.name}"


def _template(settings: GatewaySettings, *, http: bool) -> bytes:
    cluster = common_fields(settings)
    cluster.lb_policy = cluster_pb2.Cluster.LEAST_REQUEST
    cluster.type = cluster_pb2.Cluster.STATIC
    cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    cluster.common_lb_config.healthy_panic_threshold.SetInParent()  # 0: never choose among copies that are not there
    struct = typed_struct_pb2.TypedStruct(
        type_url="type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    )
    again = {"name": names.AGAIN_HEADER, "present_match": True}
    options: dict[str, object] = {
        "common_http_protocol_options": {"idle_timeout": f"{settings.idle_timeout}s"},
        "explicit_http_config": {"http_protocol_options": {}} if http else {"http2_protocol_options": {}},
        # Here and not on each of thousands of routes.
        "retry_policy": retry_elsewhere(settings, *([again] if http else [])),
    }
    if http:
        options["http_filters"] = copy_filters()
    json_format.ParseDict(options, struct.value)
    cluster.typed_extension_protocol_options[names.HTTP_OPTIONS].Pack(struct, deterministic=True)
    return serialized(cluster)
