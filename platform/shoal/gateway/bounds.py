"""How many requests gateways let be in flight to a pod that has more of them than it can answer. Decided without I/O.

A pod is full when its requests give up waiting. From then on it gets at most as many as it answers in half the time
after which they gave up (by Little's law: so long, then, is its queue), and the rest is refused at once, as long as
that many are there. Where requests do not queue but just take long, a bound only makes answers fewer: it is lifted, and
the pod is left alone for a while. Pods that are not full have no bound: bursts wait there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shoal.gateway.protocols import Counted, Quantity

LEAST: Final = 16
"""In flight to a pod at all times, so that it always has something to do."""
GAVE_UP: Final = 0.05
"""Share of requests that gave up from which on a pod is full."""
_FEW: Final = 5
"""Requests that may give up in a window, whatever share they are."""
_PATIENT_MS: Final = 1000.0
"""A client that goes away sooner did not get tired: it asks twice, say, and needs the slower answer no more."""
_WINDOWS: Final = 5
"""Windows of which the best counts for what a pod can do, and in which a bound must not be reached to be lifted."""
_REACHED: Final = 0.7
"""Share of a bound in flight, on average over a window, from which on the bound is reached."""
_FEWER: Final = 0.75
"""Share of the answers there were without a bound. With fewer for `_FOR` windows in a row, the bound is to blame."""
_FOR: Final = 3
_SHARE: Final = 0.5
"""Of the time after which requests give up."""
_ALONE_SECONDS: Final = 60.0
_MOST_ALONE_SECONDS: Final = 3600.0
"""How long a pod is left alone whose bound was to blame; each time twice as long, up to this."""
_UNARY: Final = "ModelInfer"
"""Streams end when their clients want."""


@dataclass(slots=True)
class BoundWindow:
    """What became of a pod's requests that ended in so many seconds."""

    seconds: float
    answered: int = 0
    gave_up: int = 0
    given_up_ms: float = 0.0
    """How long those took that gave up, together."""
    total_ms: float = 0.0
    """How long all took, together."""

    def add(self, one: Counted) -> None:
        """Count requests that are alike."""
        if one.overflown:
            return
        self.total_ms += one.total
        is_late = one.code == "DEADLINE_EXCEEDED" or (
            one.code == "CANCELLED" and one.total >= _PATIENT_MS * one.count
        )  # fmt: skip
        if is_late and one.method == _UNARY:
            self.gave_up += one.count
            self.given_up_ms += one.total
        elif one.code != "CANCELLED":
            self.answered += one.count

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def in_flight(self) -> float:
        """Requests at a time, on average."""
        return self.total_ms / 1000 / self.seconds

    @property
    def is_late(self) -> bool:
        """Whether too many gave up."""
        return self.gave_up > max(_FEW, GAVE_UP * (self.answered + self.gave_up))


@dataclass(slots=True)
class PodBound:
    """The bound of one pod."""

    limit: int | None = None
    """Requests in flight; None: any number."""
    _rates: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOWS))
    _unbound: float = 0.0
    """Answers a second before there was a bound."""
    _patience: float = 0.0
    """Seconds after which requests gave up."""
    _alone: float = 0.0
    """Seconds for which the pod is left alone."""
    _next_alone: float = _ALONE_SECONDS
    _settling: float = 0.0
    """Seconds until those are through that waited when the bound came."""
    _fewer: int = 0
    """Windows in a row with fewer answers, after that."""
    _unreached: int = 0

    def after(self, window: BoundWindow) -> None:
        """Decide anew after a window."""
        self._rates.append(window.rate)
        if window.is_late:
            self._patience = window.given_up_ms / 1000 / window.gave_up
        if self.limit is None:
            self._alone -= window.seconds
            if window.is_late and self._alone <= 0:
                self._unbound, self._settling = max(self._rates), 2 * self._patience
                self._set()
        elif window.is_late or window.in_flight >= _REACHED * self.limit:
            self._unreached = 0
            self._settling -= window.seconds
            is_fewer = self._settling < 0 and window.rate < _FEWER * self._unbound
            self._fewer = self._fewer + 1 if is_fewer else 0
            if self._fewer < _FOR:
                self._set()
                return
            self._alone, self._next_alone = self._next_alone, min(2 * self._next_alone, _MOST_ALONE_SECONDS)
            self._lift()
        else:
            self._unreached += 1
            if self._unreached >= _WINDOWS:
                self._lift()

    @property
    def is_forgettable(self) -> bool:
        """Nothing is known that would matter later."""
        return self.limit is None and self._alone <= 0 and not any(self._rates)

    def _set(self) -> None:
        self.limit = max(LEAST, round(max(self._rates) * self._patience * _SHARE))

    def _lift(self) -> None:
        self.limit, self._fewer, self._unreached = None, 0, 0


class RequestBounds:
    """The bounds of all pods, from what gateways report."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._windows: dict[str, BoundWindow] = {}
        self._pods: dict[str, PodBound] = {}

    def counted(self, report: Iterable[Counted]) -> None:
        """A gateway measured this."""
        for one in report:
            if one.pod and one.quantity is Quantity.REQUEST_TIME:
                self._windows.setdefault(one.pod, BoundWindow(0.0)).add(one)

    def decide(self, now: float, seconds: float) -> Mapping[str, int] | None:
        """The pods that have a bound, with theirs; None: the window, of so many seconds, is not over."""
        if self._since is None:
            self._since = now
        if now - self._since < seconds:
            return None
        for pod in self._pods.keys() | self._windows.keys():
            window = self._windows.get(pod, BoundWindow(0.0))
            window.seconds = now - self._since
            bound = self._pods.setdefault(pod, PodBound())
            bound.after(window)
            if bound.is_forgettable:
                del self._pods[pod]
        self._windows, self._since = {}, now
        return {pod: bound.limit for pod, bound in self._pods.items() if bound.limit is not None}
