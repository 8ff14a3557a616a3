"""Builds the Envoy cluster of one route.

Twenty thousand clusters share all but their name and copies, so that part is serialized once; protobuf messages may be
concatenated, which merges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from shoal.gateway.api import Upstream
from shoal.gateway.names import METADATA, REVISION
from shoal.gateway.settings import Address, GatewaySettings
from shoal_protos.xds import cluster_pb2, core_pb2, endpoint_pb2, http_options_pb2

CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class ClusterBuilder:
    """Clusters for one protocol: copies first (priority 0), the activator as their fallback (priority 1)."""

    def __init__(self, settings: GatewaySettings, *, http: bool) -> None:
        self._http = http
        self._activator = settings.activator_http if http else settings.activator_grpc
        self._template: bytes = _template(settings, http=http).SerializeToString(deterministic=True)
        self._fingerprint = blake2b(self._template + repr(self._activator).encode(), digest_size=16).digest()

    def version(self, upstreams: Sequence[Upstream]) -> str:
        """The same for the same content, also after a restart of the mesh, so that gateways keep what they have."""
        return blake2b(repr(upstreams).encode(), digest_size=12, key=self._fingerprint).hexdigest()

    def build(self, name: str, upstreams: Sequence[Upstream]) -> bytes:
        """The serialized `envoy.config.cluster.v3.Cluster`."""
        cluster = cluster_pb2.Cluster(name=name)
        assignment = cluster.load_assignment
        assignment.cluster_name = name
        localities: dict[str, endpoint_pb2.LocalityLbEndpoints] = {}
        for upstream in upstreams:
            locality = localities.get(upstream.revision)
            if locality is None:
                locality = localities[upstream.revision] = assignment.endpoints.add()
                locality.locality.sub_zone = upstream.revision
                locality.load_balancing_weight.value = upstream.weight
            port = upstream.http_port if self._http else upstream.grpc_port
            if port is None:
                raise ValueError(f"{name}: the copy of {upstream.revision} at {upstream.host} has no HTTP port")
            endpoint = locality.lb_endpoints.add()
            endpoint.metadata.filter_metadata[METADATA][REVISION] = upstream.revision
            _set_address(endpoint, Address(host=upstream.host, port=port))
        fallback = assignment.endpoints.add(priority=1)
        fallback.load_balancing_weight.value = 1
        _set_address(fallback.lb_endpoints.add(), self._activator)
        serialized: bytes = cluster.SerializeToString()
        return serialized + self._template


def _set_address(endpoint: endpoint_pb2.LbEndpoint, address: Address) -> None:
    socket = endpoint.endpoint.address.socket_address
    socket.address = address.host
    socket.port_value = address.port


def _template(settings: GatewaySettings, *, http: bool) -> cluster_pb2.Cluster:
    cluster = cluster_pb2.Cluster(type=cluster_pb2.Cluster.STATIC, lb_policy=cluster_pb2.Cluster.LEAST_REQUEST)
    cluster.connect_timeout.CopyFrom(_duration(settings.connect_timeout))
    cluster.per_connection_buffer_limit_bytes.value = settings.max_message_bytes
    cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    cluster.common_lb_config.healthy_panic_threshold.SetInParent()  # 0: never choose among copies that are not there
    limit = settings.max_requests_per_model
    thresholds = cluster.circuit_breakers.thresholds.add()
    for field in ("max_connections", "max_pending_requests", "max_requests", "max_retries"):
        getattr(thresholds, field).value = limit
    options = http_options_pb2.HttpProtocolOptions()
    options.common_http_protocol_options.idle_timeout.CopyFrom(_duration(settings.idle_timeout))
    if http:
        options.explicit_http_config.http_protocol_options.CopyFrom(core_pb2.Http1ProtocolOptions())
    else:
        options.explicit_http_config.http2_protocol_options.CopyFrom(core_pb2.Http2ProtocolOptions())
    packed = Any()
    packed.Pack(options, deterministic=True)
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed)
    return cluster


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
