"""What the mesh tells the gateways and hears from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from shoal.core.events import RevisionUsage
from shoal.core.types import PodId, RevisionId, RouteKey


@dataclass(frozen=True, slots=True)
class Upstream:
    """One copy a route leads to: the model server that holds it. `weight` divides requests between revisions.

    An empty `revision` is the activator's own share: requests go there as those without a copy do.
    """

    revision: str
    host: str
    grpc_port: int
    http_port: int | None
    weight: int = 1
    watched: bool = False
    """Every request to it is reported (`GatewayCallbacks.observed`)."""
    shielded: bool = False
    """Its errors (400, 422, 5xx; UNKNOWN, INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL,
    UNAVAILABLE, DATA_LOSS) are not passed on: the activator answers instead, as when the copy is gone."""
    sticky: bool = False
    """On any upstream of a route: requests with the same `x-shoal-sticky` header go to the same upstream, as far as
    weights allow; those without it are divided as ever."""
    pod: str = ""
    runtime: str = ""
    """Where it is, as metrics have it."""
    drains: bool = True
    """Its server waits for the requests under way before it unloads a model: nobody needs to ask `Gateways.idle`."""


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """How one attempt at a watched copy went."""

    key: RouteKey
    revision: str
    milliseconds: float
    error: bool
    """One of the errors of `Upstream.shielded`, or no answer at all."""


class Quantity(Enum):
    """What gateways measure of each request."""

    REQUEST_TIME = "request_time"
    """Milliseconds from its first byte to the last of its answer."""
    MODEL_TIME = "model_time"
    """Milliseconds of that at the model server."""
    REQUEST_BYTES = "request_bytes"
    RESPONSE_BYTES = "response_bytes"


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests that are alike, since the gateway's last report. Without a pod no copy answered."""

    quantity: Quantity
    method: str
    code: str
    runtime: str
    pod: str
    revision: str
    endpoint: str
    """These two only where metrics are wanted per model."""
    cumulative: tuple[int, ...]
    """How many are within each bucket's bound."""
    count: int
    total: float
    overflown: bool = False
    """The gateway refused them: as many were in flight to the pod as may be."""


@dataclass(frozen=True, slots=True)
class GatewayCallbacks:
    """How gateways are heard. Called on the event loop."""

    acknowledged: Callable[[int], None]
    """Every connected gateway runs with routes of at least this version."""
    usage: Callable[[float, tuple[RevisionUsage, ...]], None]
    """What a part of a gateway counted; it reports every so many seconds if there is something."""
    observed: Callable[[tuple[RequestSeen, ...]], None] = lambda _: None
    """Requests to watched copies, within a second or two of each."""
    counted: Callable[[tuple[Counted, ...]], None] = lambda _: None
    """All requests for models, some seconds after each."""


class Gateways(Protocol):
    """The route table and the gateways that follow it."""

    async def start(self) -> None:
        """Serve xDS and hear reports. Only when the route table is complete: gateways drop what it lacks."""

    async def stop(self) -> None:
        """Stop serving; gateways go on with what they have."""

    def publish(self, version: int, changes: Mapping[RouteKey, tuple[Upstream, ...]]) -> None:
        """Change routes; an empty tuple removes one. The callback acknowledges, at once if nobody is connected."""

    def want_http(self, key: RouteKey) -> None:
        """A standard V2 REST request came for this key: route such requests directly from now on.

        Such routes cost memory of their own, so only keys that are asked for have them; the least wanted go first.
        """

    def want_revision(self, revision: str) -> None:
        """A request named this revision itself (`mm-model-id`): route such requests directly from now on."""

    async def collect_usage(self, timeout: float) -> None:
        """Wait until every gateway has reported what it counted up to now, but at most `timeout` seconds."""

    async def idle(self, pod: PodId, revision: RevisionId) -> None:
        """Wait until no gateway has a request under way at a copy whose routes are withdrawn (`Upstream.drains`)."""

    @property
    def connected(self) -> int:
        """How many gateways are connected."""
