"""Serves the route table to gateways (delta xDS); hears what is used, watched (ALS) and measured (metrics)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from shoal.core.types import PodId, RevisionId, RouteKey
from shoal.gateway import names
from shoal.gateway.bounds import RequestBounds
from shoal.gateway.counting import FLUSH_SECONDS, counted
from shoal.gateway.follower import Follower
from shoal.gateway.protocols import GatewayCallbacks, Upstream
from shoal.gateway.settings import MIB, GatewaySettings
from shoal.gateway.table import GatewayTable, Refs, ResourceKind
from shoal.gateway.underway import PERIOD_SECONDS, Underway, long_requests, used
from shoal.gateway.usage import Usage, read_counts, read_load
from shoal.gateway.watched_requests import attempts
from shoal.listening import require_bindable
from shoal_protos.usage import usage_pb2, usage_pb2_grpc
from shoal_protos.xds import (
    access_log_service_pb2,
    access_log_service_pb2_grpc,
    discovery_pb2,
    discovery_pb2_grpc,
    load_stats_pb2,
    load_stats_pb2_grpc,
    metrics_service_pb2,
    metrics_service_pb2_grpc,
)

logger = logging.getLogger(__name__)

_MAX_RECEIVE = 64 * MIB
"""A gateway that reconnects names all clusters it has."""
_KINDS = {kind.value: kind for kind in ResourceKind}
WINDOW_SECONDS = FLUSH_SECONDS - 0.1
"""At least so much lies between two decisions on bounds, so that each gateway has reported once or so in between."""
LATE = 0.3
"""Seconds after its interval within which a report is here."""


class GatewayControl(
    discovery_pb2_grpc.AggregatedDiscoveryServiceServicer,
    load_stats_pb2_grpc.LoadReportingServiceServicer,
    access_log_service_pb2_grpc.AccessLogServiceServicer,
    metrics_service_pb2_grpc.MetricsServiceServicer,
    usage_pb2_grpc.UsageServicer,
):
    """The `Gateways` of the mesh. All methods are to be called on one event loop."""

    def __init__(self, settings: GatewaySettings, callbacks: GatewayCallbacks) -> None:
        self._settings = settings
        self._callbacks = callbacks
        self._table = GatewayTable(settings)
        self._version = 0
        self._reported = -1
        self._streams: dict[Follower, asyncio.Event] = {}
        self._underway = Underway()
        self._bounds = RequestBounds()
        self._server: grpc.aio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self.refusals = 0
        """How often a gateway refused a change; 0 unless gateway and mesh do not fit together."""
        self.last_refusal: str | None = None

    @property
    def connected(self) -> int:
        """How many gateways are connected."""
        return len(self._streams)

    @property
    def accepted(self) -> int:
        """The version every connected gateway runs with at least; -1 while one has not accepted its first."""
        return min((f.accepted for f in self._streams), default=self._version)

    async def start(self) -> None:
        """Serve xDS and hear reports.

        Raises:
            OSError: the address is taken.
        """
        address = f"{self._settings.xds.host}:{self._settings.xds.port}"
        try:
            require_bindable(self._settings.xds.host, self._settings.xds.port)
        except OSError as error:
            raise OSError(f"cannot serve gateways at {address}: {error}") from None
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", _MAX_RECEIVE),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 5_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
            ]
        )
        discovery_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        load_stats_pb2_grpc.add_LoadReportingServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        access_log_service_pb2_grpc.add_AccessLogServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        usage_pb2_grpc.add_UsageServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot serve gateways at {address}: {error}") from error
        await server.start()
        self._server = server
        self._sweeping = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stop serving; gateways go on with what they have."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        if self._server is not None:
            await self._server.stop(grace=0)
            self._server = None

    def publish(self, version: int, changes: Mapping[RouteKey, tuple[Upstream, ...]]) -> None:
        """Change routes; an empty tuple removes one. The acknowledgement never comes before this returns."""
        self._version = version
        self._changed(self._table.publish(changes))

    def want_http(self, key: RouteKey) -> None:
        """Route standard V2 REST requests for this key directly from now on."""
        self._changed(self._table.want_http(key))

    def want_revision(self, revision: str) -> None:
        """Route requests that name this revision itself directly from now on."""
        self._changed(self._table.want_revision(revision))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.withdrawn_seconds)
            if removed := self._table.sweep():
                self._changed(removed)

    def _changed(self, refs: Refs) -> None:
        for follower, wake in self._streams.items():
            follower.changed(refs, self._version)
            wake.set()
        if not self._streams:
            self._report_soon()

    def _report_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._report_acknowledged)

    def _report_acknowledged(self) -> None:
        version = self.accepted
        if version > self._reported:
            self._reported = version
            self._callbacks.acknowledged(version)

    # --- delta xDS ---------------------------------------------------------------------------------------------------

    async def DeltaAggregatedResources(  # noqa: N802
        self,
        request_iterator: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        """One gateway's stream: it lives until the gateway leaves or does not answer in time."""
        hello = await anext(aiter(request_iterator), None)
        if hello is None:
            return
        if hello.type_url not in _KINDS:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"only {', '.join(_KINDS)} are served here")
        follower = Follower(self._table, self._version, scoped=names.TAKES_SCOPES in hello.node.metadata)
        self._hear(follower, hello)
        wake = asyncio.Event()
        wake.set()
        self._streams[follower] = wake
        logger.info("gateway %s connected", hello.node.id)
        reader = asyncio.ensure_future(self._read(follower, request_iterator, wake))
        try:
            await self._write(follower, context, wake, reader)
        finally:
            reader.cancel()
            del self._streams[follower]
            logger.info("gateway %s disconnected", hello.node.id)
            self._report_soon()

    async def _read(
        self, follower: Follower, requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest], wake: asyncio.Event
    ) -> None:
        async for request in requests:
            self._hear(follower, request)
            wake.set()

    def _hear(self, follower: Follower, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        kind = _KINDS.get(request.type_url)
        if kind is ResourceKind.CLUSTER and (adopted := self._table.adopt(request.initial_resource_versions)):
            self._changed(adopted)
        if kind is not None:
            follower.subscribed(kind, request.initial_resource_versions)
        refusal = follower.answered(request.response_nonce, request.error_detail.message)
        if refusal:
            self.refusals += 1
            self.last_refusal = refusal
            logger.error("%s", refusal)

    async def _write(
        self,
        follower: Follower,
        context: grpc.aio.ServicerContext[Any, Any],
        wake: asyncio.Event,
        reader: asyncio.Future[None],
    ) -> None:
        clock = asyncio.get_running_loop().time
        reader.add_done_callback(lambda _: wake.set())
        while not reader.done():
            try:
                async with asyncio.timeout(self._settings.ack_timeout / 2):
                    await wake.wait()
            except TimeoutError:
                if follower.overdue(clock(), self._settings.ack_timeout):
                    logger.error("gateway does not acknowledge; cutting it off")  # noqa: TRY400
                    return
                continue
            wake.clear()
            response = follower.next_response(clock())
            self._report_acknowledged()
            if response is not None:
                await context.write(response)

    def _share(self, bounds: Mapping[str, int]) -> Mapping[str, int]:
        """What of it each gateway may have in flight."""
        return {pod: max(1, -(-bound // max(1, len(self._streams)))) for pod, bound in bounds.items()}

    # --- usage -------------------------------------------------------------------------------------------------------

    async def Report(  # noqa: N802
        self, request: usage_pb2.UsageReport, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Empty:
        """What a script of a gateway counted, in one of its workers."""
        self._used(read_counts(request, self._table.revision))
        return Empty()

    async def StreamLoadStats(  # noqa: N802
        self,
        request_iterator: AsyncIterator[load_stats_pb2.LoadStatsRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        """One gateway's load reports, of routes that divide their requests between revisions."""
        ordered: frozenset[str] | None = None
        async for report in request_iterator:  # the first only says who reports
            self._used(read_load(report))
            if ordered != self._table.divided:
                ordered = self._table.divided
                await context.write(self._order(ordered))

    def _order(self, clusters: Iterable[str]) -> load_stats_pb2.LoadStatsResponse:
        order = load_stats_pb2.LoadStatsResponse(clusters=sorted(clusters))
        order.load_reporting_interval.FromNanoseconds(int(self._settings.usage_interval * 1e9))
        return order

    async def collect_usage(self, timeout: float) -> None:
        """See `Gateways`."""
        if self._streams:
            await asyncio.sleep(min(timeout, self._settings.usage_interval + LATE))

    def _used(self, usage: Usage) -> None:
        for route in usage.routes:
            self._table.used(route)
        if usage.revisions:
            self._callbacks.usage(self._settings.usage_interval, usage.revisions)

    # --- ALS ---------------------------------------------------------------------------------------------------------

    async def StreamAccessLogs(  # noqa: N802
        self,
        request_iterator: AsyncIterator[access_log_service_pb2.StreamAccessLogsMessage],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> access_log_service_pb2.StreamAccessLogsResponse:
        """Requests to watched copies, or those that take long, from one worker of a gateway.

        Nothing queues up: Envoy drops what is too much.
        """
        async for message in request_iterator:
            if requests := long_requests(message.http_logs.log_entry):
                self._underway.said(requests)
                self._callbacks.usage(PERIOD_SECONDS, used(requests))
            if seen := tuple(one for entry in message.http_logs.log_entry for one in attempts(entry)):
                self._callbacks.observed(seen)
        return access_log_service_pb2.StreamAccessLogsResponse()

    async def idle(self, pod: PodId, revision: RevisionId) -> None:
        """See `Gateways`."""
        await self._underway.idle(pod, revision)

    # --- metrics -----------------------------------------------------------------------------------------------------

    async def StreamMetrics(  # noqa: N802
        self,
        request_iterator: AsyncIterator[metrics_service_pb2.StreamMetricsMessage],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> metrics_service_pb2.StreamMetricsResponse:
        """What one gateway measured, every few seconds."""
        async for message in request_iterator:
            if measured := tuple(counted(message)):
                self._callbacks.counted(measured)
                self._bounds.counted(measured)
            bounds = self._bounds.decide(asyncio.get_running_loop().time(), WINDOW_SECONDS)
            if bounds is not None and (changed := self._table.bound(self._share(bounds))):
                self._changed(changed)
        return metrics_service_pb2.StreamMetricsResponse()
