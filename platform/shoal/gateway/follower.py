"""One gateway that follows the route table: what it is sent, what it has accepted. Decided without I/O.

The protocol is delta xDS ("Delta" in Envoy's xDS protocol description): every response carries a nonce and the gateway
answers each with a request of that nonce, with `error_detail` when it refused something. One response is under way at
a time; what changes meanwhile is collected into the next. Clusters come before the scopes that lead to them, and go
after these: first clusters to set, then scopes, then clusters to remove. Bounds of pods come when the routes are there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shoal.gateway.scopes import salted
from shoal.gateway.table import GatewayTable, Ref, ResourceKind
from shoal_protos.xds import discovery_pb2

BATCH = 500
"""Resources in one response: about 150 KB."""
_SALTED = "~"
"""Before the salt in the version of a scope."""
_CLUSTER, _SCOPE = ResourceKind.CLUSTER, ResourceKind.SCOPE


@dataclass(frozen=True, slots=True)
class _Sent:
    nonce: str
    refs: tuple[Ref, ...]
    removals_only: bool
    version: int | None
    """Of the table, when the gateway has all of it with this response, but for clusters to remove."""
    at: float


class Follower:
    """The state of one xDS stream.

    Args:
        version: that of the table now.
        scoped: whether the gateway takes scopes. One that does not is of an earlier Shoal, with clusters by model: it
            is left with clusters it cannot use, and has the activator take all requests.
    """

    def __init__(self, table: GatewayTable, version: int, *, scoped: bool) -> None:
        self._table = table
        self._version = version
        self._scoped = scoped
        self._pending: dict[ResourceKind, dict[str, None]] = {kind: {} for kind in ResourceKind}
        self._alone: dict[ResourceKind, deque[str]] = {kind: deque() for kind in ResourceKind}
        self._removing: dict[str, None] = {}
        """Clusters."""
        self._refused: set[Ref] = set()
        self._unanswered = {_CLUSTER, _SCOPE} if scoped else {_CLUSTER}
        """Kinds of which it has been sent nothing yet."""
        self._subscribed: set[ResourceKind] = set()
        self._salt = 0
        self._sent: _Sent | None = None
        self._count = 0
        self.accepted = -1
        """The gateway runs with routes of at least this version; -1 until it has accepted its first."""

    def subscribed(self, kind: ResourceKind, known: Mapping[str, str]) -> None:
        """The gateway asks for resources of a kind; `known` is what it has of them, names to versions."""
        if kind in self._subscribed:
            return
        self._subscribed.add(kind)
        for name in self._table.names(kind):
            resource = self._table.get(kind, name)
            if resource is None or known.get(name, "").partition(_SALTED)[0] != resource.version:
                self._pending[kind][name] = None
        gone = (name for name in known if self._table.get(kind, name) is None)
        if kind is not _CLUSTER:
            self._pending[kind].update(dict.fromkeys(gone))
        else:
            keep = self._table.is_withdrawn if self._scoped else lambda _: False
            self._removing.update((name, None) for name in gone if not keep(name))

    def changed(self, refs: Iterable[Ref], version: int) -> None:
        """These resources changed, in the order in which to send them; the table has this version now."""
        self._version = version
        for kind, name in refs:
            if kind is _CLUSTER and (kind, name) in self._refused:
                self._pending[_SCOPE].update(dict.fromkeys(self._table.users(name)))
            self._refused.discard((kind, name))
            if kind is _CLUSTER and self._table.get(kind, name) is None:
                self._pending[kind].pop(name, None)
                self._removing[name] = None
                continue
            if kind is _CLUSTER:
                self._removing.pop(name, None)
            self._pending[kind][name] = None

    def overdue(self, now: float, limit: float) -> bool:
        """The gateway has not answered for longer than `limit` seconds."""
        return self._sent is not None and now - self._sent.at > limit

    def next_response(self, now: float) -> discovery_pb2.DeltaDiscoveryResponse | None:
        """What to send now, if anything. The first may be empty: gateways open their ports when they have it."""
        if self._sent is not None:
            return None
        if self._is_complete():
            self.accepted = self._version
        for kind in ResourceKind:
            if kind in self._subscribed and (self._alone[kind] or self._pending[kind] or kind in self._unanswered):
                return self._send(kind, self._take(kind), now)
        if self._removing and self._is_complete():
            names = tuple(self._removing)[:BATCH]
            for name in names:
                del self._removing[name]
            return self._send(_CLUSTER, names, now)
        return None

    def answered(self, nonce: str, error: str) -> str | None:
        """The gateway answered a response. Returns what to tell the operator if it refused something.

        A refusal never holds up the rest: a refused batch is sent again one by one, and what is refused alone is taken
        away from that gateway, whose requests for it go to the activator then. After a refusal a gateway may take
        scopes for known that it does not have, so it is sent others in their place (`salted`).
        """
        sent = self._sent
        if sent is None or sent.nonce != nonce:
            return None
        self._sent = None
        if error and not sent.removals_only:
            if len(sent.refs) == 1:
                self._refuse(sent.refs[0])
            self._salt += 1
            for kind, name in sent.refs:
                self._alone[kind].append(name)
        elif sent.version is not None:
            self.accepted = sent.version
        if not error:
            return None
        names = [name for _, name in sent.refs]
        return f"gateway refused {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {error}"

    def _refuse(self, ref: Ref) -> None:
        self._refused.add(ref)
        kind, name = ref
        if kind is _CLUSTER:  # scopes without their cluster would fail requests
            self._pending[_SCOPE].update(dict.fromkeys(self._table.users(name)))

    def _is_complete(self) -> bool:
        """Nothing is left to send of routes but clusters to remove."""
        return not self._unanswered and not any(
            self._pending[kind] or self._alone[kind] for kind in (_CLUSTER, _SCOPE) if kind in self._subscribed
        )

    def _take(self, kind: ResourceKind) -> tuple[str, ...]:
        names = (self._alone[kind].popleft(),) if self._alone[kind] else tuple(self._pending[kind])[:BATCH]
        for name in names:
            self._pending[kind].pop(name, None)
        return names

    def _send(self, kind: ResourceKind, names: tuple[str, ...], now: float) -> discovery_pb2.DeltaDiscoveryResponse:
        self._unanswered.discard(kind)
        self._count += 1
        response = discovery_pb2.DeltaDiscoveryResponse(type_url=kind.value, nonce=str(self._count))
        for name in names:
            resource = self._table.get(kind, name)
            if resource is None or self._is_refused(kind, name, resource.needs):
                response.removed_resources.append(name)
                continue
            content, version = resource.content, resource.version
            if kind is _SCOPE and self._salt:
                content, version = salted(content, self._salt), f"{version}{_SALTED}{self._salt}"
            sent = response.resources.add(name=name, version=version)
            sent.resource.type_url = kind.value
            sent.resource.value = content
        version_then = self._version if self._is_complete() else None
        refs = tuple((kind, name) for name in names)
        self._sent = _Sent(response.nonce, refs, not response.resources, version_then, now)
        return response

    def _is_refused(self, kind: ResourceKind, name: str, needs: Iterable[str]) -> bool:
        return (kind, name) in self._refused or any((_CLUSTER, cluster) in self._refused for cluster in needs)
