"""Builds the Envoy clusters of a route in a rollout, which has its own: for weights, marks of copies and stickiness.

They share all but their name and copies, so that part is serialized once; protobuf messages may be concatenated, which
merges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from shoal.gateway.counting import host_name
from shoal.gateway.names import HTTP_OPTIONS, METADATA, REVISION, SHIELDED, WATCHED, is_sticky_cluster
from shoal.gateway.protocols import Upstream
from shoal.gateway.rollouts import is_sticky, protocol_options, retry_list
from shoal.gateway.settings import Address, GatewaySettings
from shoal_protos.xds import cluster_pb2, core_pb2, endpoint_pb2, http_options_pb2

CLUSTER_TYPE: Final = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


class ClusterBuilder:
    """Clusters for one protocol: copies first (priority 0), the activator as their fallback (priority 1)."""

    def __init__(self, settings: GatewaySettings, *, http: bool) -> None:
        self._settings = settings
        self._http = http
        self._activator = settings.activator_http if http else settings.activator_grpc
        self._templates = {kind: _template(settings, http=http, kind=kind) for kind in _Kind}

    def build(self, name: str, upstreams: Sequence[Upstream]) -> bytes:
        """The serialized `envoy.config.cluster.v3.Cluster`."""
        kind = _kind(name, upstreams)
        cluster = cluster_pb2.Cluster(name=name)
        if kind is _Kind.RETRY_LIST:
            cluster.cluster_type.name = "envoy.clusters.composite"
            options = retry_list(self._settings, name, http=self._http)
            cluster.cluster_type.typed_config.Pack(options, deterministic=True)
        else:
            self._place(cluster, upstreams)
        return serialized(cluster) + self._templates[kind]

    def _place(self, cluster: cluster_pb2.Cluster, upstreams: Sequence[Upstream]) -> None:
        assignment = cluster.load_assignment
        assignment.cluster_name = cluster.name
        localities: dict[str, endpoint_pb2.LocalityLbEndpoints] = {}
        for upstream in upstreams:
            if not upstream.weight:  # for Envoy a weight is at least 1; who has none gets nothing
                continue
            locality = localities.get(upstream.revision)
            if locality is None:
                locality = localities[upstream.revision] = assignment.endpoints.add()
                locality.locality.sub_zone = upstream.revision
                locality.load_balancing_weight.value = upstream.weight
            self._add(cluster.name, locality.lb_endpoints.add(), upstream)
        fallback = assignment.endpoints.add(priority=1)
        fallback.load_balancing_weight.value = 1
        set_address(fallback.lb_endpoints.add(), self._activator)

    def _add(self, name: str, endpoint: endpoint_pb2.LbEndpoint, upstream: Upstream) -> None:
        if not upstream.revision:
            set_address(endpoint, self._activator)
            return
        port = upstream.http_port if self._http else upstream.grpc_port
        if port is None:
            raise ValueError(f"{name}: the copy of {upstream.revision} at {upstream.host} has no HTTP port")
        set_address(endpoint, Address(host=upstream.host, port=port))
        if upstream.pod:
            endpoint.endpoint.hostname = host_name(upstream.runtime, upstream.pod)
        metadata = endpoint.metadata.filter_metadata[METADATA]
        metadata[REVISION] = upstream.revision
        if upstream.watched:
            metadata[WATCHED] = "1"
        if upstream.shielded:
            metadata[SHIELDED] = "1"
        if upstream.sticky:  # a pod may hold both revisions, and is then one copy of each
            endpoint.metadata.filter_metadata["envoy.lb"]["hash_key"] = f"{upstream.revision} {upstream.host}:{port}"


class _Kind(Enum):
    """What a cluster is for."""

    DIVIDED = 1
    """Of a route that does not stick."""
    RETRY_LIST = 2
    """Of a sticky route: it leads to the next."""
    STICKY = 3


def _kind(name: str, upstreams: Sequence[Upstream]) -> _Kind:
    if is_sticky(upstreams):
        return _Kind.STICKY if is_sticky_cluster(name) else _Kind.RETRY_LIST
    return _Kind.DIVIDED


_BALANCERS: Final = {
    _Kind.DIVIDED: cluster_pb2.Cluster.LEAST_REQUEST,
    _Kind.RETRY_LIST: cluster_pb2.Cluster.CLUSTER_PROVIDED,
    _Kind.STICKY: cluster_pb2.Cluster.MAGLEV,
}


def set_address(endpoint: endpoint_pb2.LbEndpoint, address: Address) -> None:
    """Where an endpoint listens."""
    socket = endpoint.endpoint.address.socket_address
    socket.address = address.host
    socket.port_value = address.port


def serialized(message: Message) -> bytes:
    """The same for the same content, also in another process."""
    found: bytes = message.SerializeToString(deterministic=True)
    return found


def common_fields(settings: GatewaySettings) -> cluster_pb2.Cluster:
    """Limits that all clusters of copies have."""
    cluster = cluster_pb2.Cluster()
    cluster.connect_timeout.CopyFrom(_duration(settings.connect_timeout))
    cluster.per_connection_buffer_limit_bytes.value = settings.max_message_bytes
    thresholds = cluster.circuit_breakers.thresholds.add()
    for field in ("max_connections", "max_pending_requests", "max_requests", "max_retries"):
        getattr(thresholds, field).value = settings.max_requests_per_pod
    return cluster


def _template(settings: GatewaySettings, *, http: bool, kind: _Kind) -> bytes:
    cluster = common_fields(settings)
    cluster.lb_policy = _BALANCERS[kind]
    if kind is not _Kind.RETRY_LIST:
        cluster.type = cluster_pb2.Cluster.STATIC
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
        # 0: never choose among copies that are not there
        cluster.common_lb_config.healthy_panic_threshold.SetInParent()
    packed = Any()
    options: Message
    if kind is _Kind.STICKY:  # Envoy asks the route's own cluster for filters, retries and what to hash
        options = _plain_options(settings, http=http)
    else:
        options = protocol_options(settings, http=http, sticky=kind is _Kind.RETRY_LIST)
    packed.Pack(options, deterministic=True)
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(packed)
    return serialized(cluster)


def _plain_options(settings: GatewaySettings, *, http: bool) -> http_options_pb2.HttpProtocolOptions:
    options = http_options_pb2.HttpProtocolOptions()
    options.common_http_protocol_options.idle_timeout.CopyFrom(_duration(settings.idle_timeout))
    if http:
        options.explicit_http_config.http_protocol_options.CopyFrom(core_pb2.Http1ProtocolOptions())
    else:
        options.explicit_http_config.http2_protocol_options.CopyFrom(core_pb2.Http2ProtocolOptions())
    return options


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
