"""Remembers a few of the newest requests each endpoint was sent through the activator: real ones to warm up with.

In memory only, never written or logged: they are users' data.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from shoal.core.types import EndpointName

KEPT: Final = 8
"""Requests of one endpoint."""
MAX_ONE: Final = 256 * 1024
"""Bytes of a request that is remembered."""
MAX_ALL: Final = 16 * 1024 * 1024
"""Bytes of all of them; the endpoints asked longest ago are forgotten first."""


@dataclass(frozen=True, slots=True)
class _Request:
    size: int
    message: Callable[[], bytes]


@dataclass(slots=True)
class RecentRequests:
    """The newest requests by endpoint, bounded."""

    _requests: OrderedDict[EndpointName, deque[_Request]] = field(default_factory=OrderedDict)
    _size: int = 0

    def remember(self, endpoint: EndpointName, size: int, message: Callable[[], bytes]) -> None:
        """A request of so many bytes was answered well.

        Args:
            message: makes a `ModelInferRequest` of it, when one is needed. Raises ValueError if it cannot.
        """
        if size > MAX_ONE:
            return
        kept = self._requests.setdefault(endpoint, deque())
        self._requests.move_to_end(endpoint)
        kept.append(_Request(size, message))
        self._size += size
        if len(kept) > KEPT:
            self._size -= kept.popleft().size
        while self._size > MAX_ALL:
            _, forgotten = self._requests.popitem(last=False)
            self._size -= sum(request.size for request in forgotten)

    def of(self, endpoint: EndpointName) -> Sequence[bytes]:
        """The newest requests of an endpoint as `ModelInferRequest` messages, for whichever model they were."""
        messages = []
        for request in self._requests.get(endpoint, ()):
            with suppress(ValueError):
                messages.append(request.message())
        return messages
