"""Which copies have requests under way that take long, also after their routes are withdrawn.

Envoy logs each request once more for every second that it runs, which costs others next to nothing. So a copy of which
no gateway has said so for a little more than a second has none.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from shoal.core.events import RevisionUsage
from shoal.core.types import PodId, RevisionId
from shoal.gateway import names
from shoal.gateway.counting import copy_of
from shoal_protos.xds import access_log_pb2

PERIOD_SECONDS: Final = 1.0
_FLUSH_SECONDS: Final = 0.1
_BUFFER_BYTES: Final = 64 * 1024
QUIET_SECONDS: Final = PERIOD_SECONDS + _FLUSH_SECONDS + 0.2
"""After so long, what a gateway had to say of a request is here."""
_COPY = "copy"

Copy = tuple[PodId, RevisionId]


def long_log() -> dict[str, Any]:
    """The `envoy.config.accesslog.v3.AccessLog` of a listener, for requests that take long."""
    return {
        "name": "envoy.access_loggers.http_grpc",
        "filter": {"log_type_filter": {"types": ["DownstreamPeriodic"]}},
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "underway",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": names.XDS}},
                "buffer_flush_interval": f"{_FLUSH_SECONDS}s",
                "buffer_size_bytes": _BUFFER_BYTES,
                "custom_tags": [{"tag": _COPY, "value": "%UPSTREAM_HOST_NAME%"}],
            },
            "additional_request_headers_to_log": [names.MODEL_HEADER],
        },
    }


def log_options() -> dict[str, Any]:
    """The `access_log_options` of a listener."""
    return {"access_log_flush_interval": f"{PERIOD_SECONDS}s"}


def at_the_end(log: dict[str, Any]) -> dict[str, Any]:
    """A log that has each request once, although there is `long_log`."""
    ended = {"log_type_filter": {"types": ["DownstreamEnd"]}}
    return log | {"filter": {"and_filter": {"filters": [ended, log["filter"]]}} if "filter" in log else ended}


def long_requests(entries: Iterable[access_log_pb2.HTTPAccessLogEntry]) -> Counter[Copy]:
    """The copies at which these requests are, as far as they are of `long_log`, with their number."""
    requests: Counter[Copy] = Counter()
    for entry in entries:
        _, pod = copy_of(entry.common_properties.custom_tags.get(_COPY, ""))
        revision = entry.request.request_headers.get(names.MODEL_HEADER, "")
        if pod and revision:
            requests[PodId(pod), RevisionId(revision)] += 1
    return requests


def used(requests: Counter[Copy]) -> tuple[RevisionUsage, ...]:
    """Long requests as use of their revisions: a second of them is none that was counted already."""
    sums: Counter[RevisionId] = Counter()
    for (_, revision), count in requests.items():
        sums[revision] += count
    return tuple(RevisionUsage(revision, 0, count) for revision, count in sums.items())


class Underway:
    """When a gateway last said that a copy has a request under way."""

    def __init__(self) -> None:
        self._said: OrderedDict[Copy, float] = OrderedDict()  # the longest ago first

    def said(self, copies: Iterable[Copy]) -> None:
        """These copies have."""
        now = asyncio.get_running_loop().time()
        for copy in copies:
            self._said[copy] = now
            self._said.move_to_end(copy)
        while self._said and next(iter(self._said.values())) < now - QUIET_SECONDS:
            self._said.popitem(last=False)

    async def idle(self, pod: PodId, revision: RevisionId) -> None:
        """Wait until no gateway has said so for `QUIET_SECONDS`, all of them after this was called."""
        clock = asyncio.get_running_loop().time
        since = clock()
        while (rest := since + QUIET_SECONDS - clock()) > 0:
            await asyncio.sleep(rest)
            since = max(since, self._said.get((pod, revision), since))
