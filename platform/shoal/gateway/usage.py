"""How often revisions are used, from what gateways report: counts of their scripts, and Envoy's load reports (LRS).

Scripts count requests by route. Where a route divides its requests between revisions, only Envoy knows where each went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from shoal.core.events import RevisionUsage
from shoal.core.types import RevisionId
from shoal_protos.usage import usage_pb2
from shoal_protos.xds import load_stats_pb2


@dataclass(frozen=True, slots=True)
class Usage:
    """What one report says. `routes` are the names of those that carried requests."""

    revisions: tuple[RevisionUsage, ...]
    routes: tuple[str, ...]


def read_counts(report: usage_pb2.UsageReport, revision_of: Callable[[str], RevisionId | None]) -> Usage:
    """What a script counted. `revision_of` a route: the one it leads to; None if there is not just one."""
    requests: Counter[RevisionId] = Counter()
    for used in report.used:
        if revision := revision_of(used.route):
            requests[revision] += used.requests
    return Usage(_revisions(requests), tuple(used.route for used in report.used))


def read_load(report: load_stats_pb2.LoadStatsRequest) -> Usage:
    """Sum a load report over clusters. Only clusters in use carry localities, and a locality is a revision."""
    requests: Counter[RevisionId] = Counter()
    clusters = []
    for stats in report.cluster_stats:
        for locality in stats.upstream_locality_stats:
            revision, count = RevisionId(locality.locality.sub_zone), locality.total_issued_requests
            if revision and count:
                requests[revision] += count
                clusters.append(stats.cluster_name)
    return Usage(_revisions(requests), tuple(clusters))


def _revisions(requests: Counter[RevisionId]) -> tuple[RevisionUsage, ...]:
    return tuple(RevisionUsage(revision, count) for revision, count in requests.items())
