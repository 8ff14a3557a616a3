"""Turns Envoy's load reports (LRS) into usage of revisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from shoal.core.events import RevisionUsage
from shoal.core.types import RevisionId
from shoal_protos.xds import endpoint_pb2, load_stats_pb2


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    in_flight: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What one report says. `clusters` are the names of those that carried requests."""

    interval: float
    revisions: tuple[RevisionUsage, ...]
    clusters: tuple[str, ...] = field(default=())


def read_report(report: load_stats_pb2.LoadStatsRequest) -> Usage:
    """Sum a report over clusters. Only clusters in use carry localities, and a locality is a revision."""
    sums: defaultdict[str, _Sum] = defaultdict(_Sum)
    clusters = []
    interval = 0.0
    for stats, revision, requests, in_flight, errors in _localities(report):
        interval = max(interval, stats.load_report_interval.seconds + stats.load_report_interval.nanos / 1e9)
        if requests:
            clusters.append(stats.cluster_name)
        total = sums[revision]
        total.requests += requests
        total.in_flight += in_flight
        total.errors += errors
    usage = tuple(
        RevisionUsage(RevisionId(revision), total.requests, total.in_flight, total.errors)
        for revision, total in sums.items()
    )
    return Usage(interval, usage, tuple(clusters))


def _localities(
    report: load_stats_pb2.LoadStatsRequest,
) -> Iterator[tuple[endpoint_pb2.ClusterStats, str, int, int, int]]:
    for stats in report.cluster_stats:
        for locality in stats.upstream_locality_stats:
            revision = locality.locality.sub_zone
            if revision:
                yield (
                    stats,
                    revision,
                    locality.total_issued_requests,
                    locality.total_requests_in_progress,
                    locality.total_error_requests,
                )
