"""How gateways count requests and measure how long they take: Envoy's stats of a listener's requests, sent to the mesh.

Envoy adds each request to four histograms and sends them every other second (its metrics service): no process but Envoy
does anything for a single request. Labels are those that users see in the end, so that there are few of them: a method,
a status and a pod, but no model unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import grpc

from shoal.gateway import names
from shoal.gateway.protocols import Counted, Quantity
from shoal.gateway.settings import GatewaySettings
from shoal_protos.xds import metrics_service_pb2

TIME_MS: Final = (
    0.5, 1, 2, 5, 10, 20, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000, 120_000, 300_000,
)  # fmt: skip
"""Buckets of times, in milliseconds, as ModelMesh has them."""
MESSAGE_BYTES: Final = tuple(128 * 4.0**step for step in range(8))
"""Buckets of sizes."""
FLUSH_SECONDS: Final = 2
"""Between two reports. A gateway's histograms are merged for each, which takes it a few microseconds a histogram."""
MAX_HISTOGRAMS: Final = 10_000
"""What is beyond is not counted. A histogram takes a gateway some kilobytes; only models' own come to so many."""
_FORGET_SECONDS: Final = 600
"""Histograms without a request for so long, such as those of pods that are gone, are given up."""

PREFIX: Final = "shoal"
_TYPE = "type.googleapis.com/envoy"


@dataclass(frozen=True, slots=True)
class _Histogram:
    """One of Envoy's histograms. `scale`: of its unit, how many are one of the quantity's."""

    name: str
    quantity: Quantity
    unit: str
    scale: float
    value: str
    bounds: tuple[float, ...]


_HISTOGRAMS: Final = (
    _Histogram("request_us", Quantity.REQUEST_TIME, "Microseconds", 1000.0,
               "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%", TIME_MS),
    _Histogram("model_us", Quantity.MODEL_TIME, "Microseconds", 1000.0,
               "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%", TIME_MS),
    _Histogram("request_bytes", Quantity.REQUEST_BYTES, "Bytes", 1.0, "%BYTES_RECEIVED%", MESSAGE_BYTES),
    _Histogram("response_bytes", Quantity.RESPONSE_BYTES, "Bytes", 1.0, "%BYTES_SENT%", MESSAGE_BYTES),
)  # fmt: skip
_CANCELLED: Final = _Histogram("cancelled_ms", Quantity.REQUEST_TIME, "Milliseconds", 1.0, "%DURATION%", TIME_MS)
"""Requests whose client went away: their answers have no end to measure to."""
_BY_NAME: Final = {f"{PREFIX}.{histogram.name}": histogram for histogram in (*_HISTOGRAMS, _CANCELLED)}
_GONE: Final = frozenset(("DC", "DR"))
"""Envoy's flags for that: the client's connection ended, or it reset the request."""
_NEVER_ROUTED: Final = _GONE | {"", "-", "NR", "DPE"}
"""All there can be of requests that came to no route, such as what is no HTTP."""
_OVERFLOWN: Final = "UO"
"""Envoy's flag for a request that is one too many in flight."""
_GRPC, _HTTP = "grpc", "http"
"""Tags of each port's requests, which hold what `_Ended` has; they differ in whose status it is."""
_PLAIN: Final = "plain"
"""Tag of inference that a model answered well, which nearly all requests are: it holds flags and copy only."""
_HTTP_CODES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_GRPC_CODES: Final[Mapping[str, str]] = {str(code.value[0]): code.name for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a request ended, as Envoy's label says it; "-" stands for what there is not."""

    protocol: str
    of_script: str
    of_route: str
    status: str
    flags: str
    copy: str

    @staticmethod
    def read(labels: Mapping[str, str]) -> _Ended | None:
        """None if that is no label of a request."""
        for protocol in (_GRPC, _HTTP):
            words = labels.get(protocol, "").split(" ")
            if len(words) == _WORDS:
                return _Ended(protocol, *words)
        flags, _, copy = labels.get(_PLAIN, "").partition(" ")
        return _Ended(_PLAIN, "-", "-", "-", flags, copy) if copy else None

    @property
    def method(self) -> str:
        """What the script says goes before what the route says; empty if the request does not count.

        Routes of models say nothing. Neither do requests that had no route, which also went nowhere and were not
        refused for a reason that one with a route can have.
        """
        routed = _said(self.of_route) or _said(self.copy) or not _NEVER_ROUTED.issuperset(self._flags)
        if not routed or self.of_route == names.UNCOUNTED:
            return ""
        return _said(f"{self.of_script} {self.of_route}") or names.INFER

    @property
    def code(self) -> str:
        """The name gRPC has for the status."""
        if _GONE.intersection(self._flags):
            return "CANCELLED"
        if self.protocol == _PLAIN:
            return "OK"
        if self.protocol == _HTTP:
            return http_code(int(self.status)) if self.status.isdecimal() else "UNKNOWN"
        return _GRPC_CODES.get(self.status, "UNKNOWN")

    @property
    def is_overflown(self) -> bool:
        """Whether the gateway refused it, as the pod was full."""
        return _OVERFLOWN in self._flags

    @property
    def _flags(self) -> list[str]:
        return self.flags.split(",")


_WORDS: Final = len(fields(_Ended)) - 1


def counted_logs(settings: GatewaySettings, *, is_grpc: bool) -> list[dict[str, Any]]:
    """The `envoy.config.accesslog.v3.AccessLog`s of a listener: for plain requests, others, and cancelled ones.

    To make a label takes longer than all else that is done for a histogram, so nearly all requests get a short one.
    """
    protocol, status = (_GRPC, "%GRPC_STATUS_NUMBER%") if is_grpc else (_HTTP, "%RESPONSE_CODE%")
    methods = f"%REQ({names.METHOD_HEADER})% %METADATA(ROUTE:{names.METADATA}:{names.METHOD})%"
    # One label and not three: each is made anew for each histogram of each request.
    whole = (protocol, f"{methods} {status} %RESPONSE_FLAGS% %UPSTREAM_HOST_NAME%")
    short = (_PLAIN, "%RESPONSE_FLAGS% %UPSTREAM_HOST_NAME%")
    more = []
    if settings.per_model_metrics:
        # One of them says so: the copy in a rollout, the script where large messages share a route, or the route.
        revision = (
            f"%UPSTREAM_METADATA({names.METADATA}:{names.REVISION})%",
            f"%DYNAMIC_METADATA({names.METADATA}:{names.REVISION})%",
            "%ROUTE_NAME%",
        )
        route = (f"%DYNAMIC_METADATA({names.METADATA}:route)%", f"%REQ({names.ROUTE_HEADER})%")
        more = [("revision", " ".join(revision)), ("route", " ".join(route))]
    gone = {"response_flag_filter": {"flags": sorted(_GONE)}}
    return [
        _log(_HISTOGRAMS, [short, *more]) | {"filter": {"and_filter": {"filters": _plain(is_grpc, whether=True)}}},
        _log(_HISTOGRAMS, [whole, *more]) | {"filter": {"or_filter": {"filters": _plain(is_grpc, whether=False)}}},
        _log((_CANCELLED,), [whole, *more]) | {"filter": gone},
    ]


def _plain(is_grpc: bool, *, whether: bool) -> list[dict[str, Any]]:
    """What holds of plain requests; or, if not `whether`, of which one holds of any other request."""
    elsewhere = {"string_match": {"prefix": names.OWN}, "invert_match": whether}
    return [
        _status_filter(is_grpc, whether=whether),
        {"header_filter": {"header": {"name": names.METHOD_HEADER, "present_match": not whether}}},
        {"header_filter": {"header": {"name": names.ROUTE_HEADER, **elsewhere}}},
    ]


def _status_filter(is_grpc: bool, *, whether: bool) -> dict[str, Any]:
    if is_grpc:
        return {"grpc_status_filter": {"statuses": ["OK"], "exclude": not whether}}
    ok = {"default_value": 200, "runtime_key": "shoal.ok"}
    return {"status_code_filter": {"comparison": {"op": "EQ" if whether else "NE", "value": ok}}}


def _log(histograms: Sequence[_Histogram], tags: Sequence[tuple[str, str]]) -> dict[str, Any]:
    labels = [{"name": name, "value_format": value} for name, value in tags]
    return {
        "name": "envoy.access_loggers.stats",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.access_loggers.stats.v3.Config",
            "stats_scope": {
                "prefix": PREFIX,
                "sharing_name": PREFIX,
                "max_histograms": MAX_HISTOGRAMS,
                "enable_eviction": True,
            },
            "histograms": [
                {"stat": {"name": one.name, "tags": labels}, "unit": one.unit, "value_format": one.value}
                for one in histograms
            ],
        },
    }


def reporting(grpc_service: dict[str, Any]) -> dict[str, Any]:
    """What the bootstrap has of it: where reports go and how often."""
    return {
        "stats_flush_interval": f"{FLUSH_SECONDS}s",
        "stats_eviction_interval": f"{_FORGET_SECONDS}s",
        "stats_sinks": [
            {
                "name": "envoy.stat_sinks.metrics_service",
                "typed_config": {
                    "@type": f"{_TYPE}.config.metrics.v3.MetricsServiceConfig",
                    "grpc_service": grpc_service,
                    "transport_api_version": "V3",
                    "emit_tags_as_labels": True,
                    "histogram_emit_mode": "HISTOGRAM",
                },
            }
        ],
    }


def buckets() -> list[dict[str, Any]]:
    """The `histogram_bucket_settings` of Envoy's `StatsConfig`."""
    return [
        {"match": {"prefix": name}, "buckets": [bound * one.scale for bound in one.bounds]}
        for name, one in _BY_NAME.items()
    ]


def counted(message: metrics_service_pb2.StreamMetricsMessage) -> Iterator[Counted]:
    """What a report says of requests for models; the rest of it is about Envoy itself."""
    for family in message.envoy_metrics:
        if (kind := _BY_NAME.get(family.name)) is None:
            continue
        for metric in family.metric:
            histogram = metric.histogram
            labels = {label.name: label.value for label in metric.label}
            ended = _Ended.read(labels)
            if not histogram.sample_count or ended is None or not (method := ended.method):
                continue
            runtime, pod = copy_of(ended.copy)
            if not pod and kind.quantity is Quantity.MODEL_TIME:
                continue  # the activator was called, which calls model servers itself and measures that
            yield Counted(
                kind.quantity,
                method=method,
                code=ended.code,
                runtime=runtime,
                pod=pod,
                revision=_revision(labels.get("revision", "")) if pod else "",
                endpoint=_endpoint(_said(labels.get("route", ""))),
                cumulative=tuple(bucket.cumulative_count for bucket in histogram.bucket),
                count=histogram.sample_count,
                total=histogram.sample_sum / kind.scale,
                overflown=ended.is_overflown,
            )


def host_name(runtime: str, pod: str) -> str:
    """How a copy's pod is called in Envoy, for `copy_of` to read; the activator has no such name."""
    return f"{runtime}/{pod}"


def copy_of(host: str) -> tuple[str, str]:
    """The runtime and the pod of a `host_name`; empty for others."""
    runtime, _, pod = host.partition("/")
    return (runtime, pod) if pod else ("", "")


def _said(values: str) -> str:
    """The first of several values that is there."""
    return next((value for value in values.split(" ") if value not in ("", "-")), "")


def _revision(values: str) -> str:
    """What copy or script say goes before the name of the route."""
    copy, _, others = values.partition(" ")
    script, _, route = others.partition(" ")
    return _said(f"{copy} {script}") or names.revision_of(route)


def _endpoint(route: str) -> str:
    try:
        key = names.route_key(route)
    except ValueError:
        return ""  # the activator
    return "" if key.is_revision else key.name


def http_code(status: int) -> str:
    """The name gRPC has for what a status of HTTP means."""
    return _HTTP_CODES.get(status) or ("OK" if 0 < status < 400 else "UNKNOWN")
