"""One gateway that follows the route table: what it is sent, what it has accepted. Decided without I/O.

The protocol is delta xDS ("Delta" in Envoy's xDS protocol description): every response carries a nonce and the gateway
answers each with a request of that nonce, with `error_detail` when it refused something. One response is under way at
a time; what changes meanwhile is collected into the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shoal.gateway.clusters import CLUSTER_TYPE
from shoal.gateway.names import is_sticky_cluster
from shoal.gateway.table import RouteTable
from shoal_protos.xds import discovery_pb2

BATCH = 500
"""Clusters in one response: about 250 KB, and some 80 ms of Envoy's main thread."""


@dataclass(frozen=True, slots=True)
class _Sent:
    nonce: str
    names: tuple[str, ...]
    removals_only: bool
    version: int | None
    """Of the table, when the gateway has all of it with this response."""
    at: float


class Follower:
    """The state of one xDS stream."""

    def __init__(self, table: RouteTable, version: int, known: Mapping[str, str]) -> None:
        """`known` is what the gateway says it has, names to versions; `version` that of the table now."""
        self._table = table
        self._version = version
        self._pending: dict[str, None] = {r.name: None for r in table if known.get(r.name) != r.version}
        self._pending.update((name, None) for name in known if table.get(name) is None)
        self._alone: deque[str] = deque()
        self._refused: set[str] = set()
        self._sent: _Sent | None = None
        self._count = 0
        self.accepted = -1
        """The gateway runs with routes of at least this version; -1 until it has accepted its first."""

    def changed(self, names: Iterable[str], version: int) -> None:
        """These clusters changed; the table has this version now."""
        self._version = version
        # A route that sticks no more is to be changed before the cluster its copies were in.
        for name in sorted(names, key=is_sticky_cluster):
            self._refused.discard(name)
            self._pending[name] = None

    def overdue(self, now: float, limit: float) -> bool:
        """The gateway has not answered for longer than `limit` seconds."""
        return self._sent is not None and now - self._sent.at > limit

    def next_response(self, now: float) -> discovery_pb2.DeltaDiscoveryResponse | None:
        """What to send now, if anything. The first may be empty: gateways open their ports when they have it."""
        if self._sent is not None:
            return None
        if not self._pending and not self._alone and self._count > 0:
            self.accepted = self._version
            return None
        names = (self._alone.popleft(),) if self._alone else tuple(self._pending)[:BATCH]
        for name in names:
            self._pending.pop(name, None)
        self._count += 1
        response = self._response(str(self._count), names)
        complete = not self._pending and not self._alone
        version = self._version if complete else None
        self._sent = _Sent(response.nonce, names, not response.resources, version, now)
        return response

    def answered(self, nonce: str, error: str) -> str | None:
        """The gateway answered a response. Returns what to tell the operator if it refused something.

        A refusal never holds up the rest: a refused batch is sent again one by one, and a cluster that is refused alone
        is taken away from that gateway, whose requests for it go to the activator then.
        """
        sent = self._sent
        if sent is None or sent.nonce != nonce:
            return None
        self._sent = None
        if error and not sent.removals_only:
            if len(sent.names) == 1:
                self._refused.add(sent.names[0])
            self._alone.extend(sent.names)
        elif sent.version is not None:
            self.accepted = sent.version
        if not error:
            return None
        return f"gateway refused {', '.join(sent.names[:3])}{', ...' if len(sent.names) > 3 else ''}: {error}"

    def _response(self, nonce: str, names: Iterable[str]) -> discovery_pb2.DeltaDiscoveryResponse:
        response = discovery_pb2.DeltaDiscoveryResponse(type_url=CLUSTER_TYPE, nonce=nonce)
        added: set[str] = set()
        for name in names:
            route = None if name in self._refused else self._table.get(name)
            if route is None:
                response.removed_resources.append(name)
                continue
            for one in (self._table.get(route.first) if route.first else None, route):
                if one is None or one.name in added:
                    continue
                added.add(one.name)
                resource = response.resources.add(name=one.name, version=one.version)
                resource.resource.type_url = CLUSTER_TYPE
                resource.resource.value = one.serialize()
        return response
