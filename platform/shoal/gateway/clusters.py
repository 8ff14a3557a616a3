"""Builds the Envoy cluster of one route.

Twenty thousand clusters share all but their name and copies, so that part is serialized once; protobuf messages may be
concatenated, which merges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from hashlib import blake2b

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from shoal.gateway.api import Upstream
from shoal.gateway.names import METADATA, REVISION, SHIELDED, WATCHED
from shoal.gateway.rollouts import in_rollout, protocol_options
from shoal.gateway.settings import Address, GatewaySettings
from shoal_protos.xds import cluster_pb2, core_pb2, endpoint_pb2, http_options_pb2

CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class ClusterBuilder:
    """Clusters for one protocol: copies first (priority 0), the activator as their fallback (priority 1)."""

    def __init__(self, settings: GatewaySettings, *, http: bool) -> None:
        self._http = http
        self._activator = settings.activator_http if http else settings.activator_grpc
        plain, rollout, sticky = (_template(settings, http=http, kind=kind) for kind in _Kind)
        self._templates = {_Kind.PLAIN: plain, _Kind.ROLLOUT: rollout, _Kind.STICKY: sticky}
        shared = plain + rollout + sticky + repr(self._activator).encode()
        self._fingerprint = blake2b(shared, digest_size=16).digest()

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
            if not upstream.weight:  # for Envoy a weight is at least 1; who has none gets nothing
                continue
            locality = localities.get(upstream.revision)
            if locality is None:
                locality = localities[upstream.revision] = assignment.endpoints.add()
                locality.locality.sub_zone = upstream.revision
                locality.load_balancing_weight.value = upstream.weight
            self._add(name, locality.lb_endpoints.add(), upstream)
        fallback = assignment.endpoints.add(priority=1)
        fallback.load_balancing_weight.value = 1
        _set_address(fallback.lb_endpoints.add(), self._activator)
        serialized: bytes = cluster.SerializeToString()
        return serialized + self._templates[_kind(upstreams)]

    def _add(self, name: str, endpoint: endpoint_pb2.LbEndpoint, upstream: Upstream) -> None:
        if not upstream.revision:
            _set_address(endpoint, self._activator)
            return
        port = upstream.http_port if self._http else upstream.grpc_port
        if port is None:
            raise ValueError(f"{name}: the copy of {upstream.revision} at {upstream.host} has no HTTP port")
        _set_address(endpoint, Address(host=upstream.host, port=port))
        metadata = endpoint.metadata.filter_metadata[METADATA]
        metadata[REVISION] = upstream.revision
        if upstream.watched:
            metadata[WATCHED] = "1"
        if upstream.shielded:
            metadata[SHIELDED] = "1"
        if upstream.sticky:  # a pod may hold both revisions, and is then one copy of each
            endpoint.metadata.filter_metadata["envoy.lb"]["hash_key"] = f"{upstream.revision} {upstream.host}:{port}"


class _Kind(Enum):
    """What a route's template is for."""

    PLAIN = 0
    ROLLOUT = 1
    STICKY = 2


def _kind(upstreams: Sequence[Upstream]) -> _Kind:
    if any(u.sticky for u in upstreams):
        return _Kind.STICKY
    return _Kind.ROLLOUT if in_rollout(upstreams) else _Kind.PLAIN


def _set_address(endpoint: endpoint_pb2.LbEndpoint, address: Address) -> None:
    socket = endpoint.endpoint.address.socket_address
    socket.address = address.host
    socket.port_value = address.port


def _template(settings: GatewaySettings, *, http: bool, kind: _Kind) -> bytes:
    cluster = cluster_pb2.Cluster(type=cluster_pb2.Cluster.STATIC, lb_policy=cluster_pb2.Cluster.LEAST_REQUEST)
    if kind is _Kind.STICKY:
        cluster.lb_policy = cluster_pb2.Cluster.MAGLEV
    cluster.connect_timeout.CopyFrom(_duration(settings.connect_timeout))
    cluster.per_connection_buffer_limit_bytes.value = settings.max_message_bytes
    cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    cluster.common_lb_config.healthy_panic_threshold.SetInParent()  # 0: never choose among copies that are not there
    limit = settings.max_requests_per_model
    thresholds = cluster.circuit_breakers.thresholds.add()
    for field in ("max_connections", "max_pending_requests", "max_requests", "max_retries"):
        getattr(thresholds, field).value = limit
    packed = Any()
    options = _plain_options(settings, http=http) if kind is _Kind.PLAIN else protocol_options(settings, http=http)
    packed.Pack(options, deterministic=True)
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed)
    serialized: bytes = cluster.SerializeToString(deterministic=True)
    return serialized


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
