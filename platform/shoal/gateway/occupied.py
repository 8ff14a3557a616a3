"""Which copies have requests of gateways under way, also after their routes are withdrawn.

Envoy forgets a copy's counts with its route, but a gauge of requests under way outlives it until the last of them is
over, if it has a name of its own. Routes get such names as far as they lead to servers that do not wait for requests
themselves, and each gateway sends all its gauges every other second (its metrics service).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from shoal.core.types import PodId, RevisionId
from shoal.gateway.api import Upstream
from shoal_protos.xds import metrics_service_pb2

_COPIES: Final = "copies"
_GAUGES: Final = frozenset(("upstream_rq_active", "upstream_rq_pending_active"))
"""At a server, and on their way to one."""


def gauges() -> dict[str, Any]:
    """The `envoy.type.matcher.v3.StringMatcher` of what gateways shall count for this.

    Envoy remembers what it is not to count of a route, which takes 1.5 KiB. With a mere prefix it would keep and
    send all statistics of these routes, which takes 17 KiB, and a kilobyte in each report.
    """
    return {"safe_regex": {"regex": rf"cluster\.{_COPIES}\.[^.]+\.({'|'.join(sorted(_GAUGES))})"}}


def stat_name(upstreams: Iterable[Upstream]) -> str:
    """What the cluster with these copies is called in statistics; empty if none of them is to be looked after."""
    copies = {
        f"{_quoted(upstream.pod)}@{_quoted(upstream.revision)}"
        for upstream in upstreams
        if upstream.weight and upstream.pod and upstream.revision and not upstream.drains
    }
    return f"{_COPIES}.{'+'.join(sorted(copies))}" if copies else ""


def _quoted(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")  # a dot would end the name


def occupied(message: metrics_service_pb2.StreamMetricsMessage) -> frozenset[tuple[PodId, RevisionId]]:
    """The copies that may have a request under way, by one report."""
    return frozenset(
        copy
        for family in message.envoy_metrics
        for copy in _copies(family.name)
        if any(metric.gauge.value for metric in family.metric)
    )


def _copies(gauge: str) -> Iterator[tuple[PodId, RevisionId]]:
    """Envoy takes the part after `cluster` out of a gauge's name, for a label."""
    match gauge.split("."):
        case ["cluster", copies, name] if name in _GAUGES:
            for copy in copies.split("+"):
                pod, _, revision = copy.partition("@")
                yield PodId(unquote(pod)), RevisionId(unquote(revision))


@dataclass(slots=True, eq=False)
class _Reports:
    """Of one gateway."""

    count: int = 0
    newest: frozenset[tuple[PodId, RevisionId]] = frozenset()


class Occupied:
    """What every gateway said last.

    Args:
        gateways: how many there are that route requests.
    """

    def __init__(self, gateways: Callable[[], int]) -> None:
        self._gateways = gateways
        self._reports: set[_Reports] = set()
        self._changed = asyncio.Event()

    @contextmanager
    def reporting(self) -> Iterator[Callable[[metrics_service_pb2.StreamMetricsMessage], None]]:
        """A gateway is there: how its reports are told. One that went away has nothing under way."""
        reports = _Reports()
        self._reports.add(reports)

        def told(message: metrics_service_pb2.StreamMetricsMessage) -> None:
            reports.count += 1
            reports.newest = occupied(message)
            self.look_again()

        try:
            yield told
        finally:
            self._reports.discard(reports)
            self.look_again()

    def look_again(self) -> None:
        """Something changed for those who wait."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def idle(self, pod: PodId, revision: RevisionId) -> None:
        """Wait until every gateway has said, after this was called, that the copy has no request under way."""
        before = {reports: reports.count for reports in self._reports}

        def free(reports: _Reports) -> bool:
            return reports.count > before.get(reports, 0) and (pod, revision) not in reports.newest

        while len(self._reports) < self._gateways() or not all(map(free, self._reports)):
            await self._changed.wait()
