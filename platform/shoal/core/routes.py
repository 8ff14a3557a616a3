"""What the gateways were told, and which withdrawals they have not acknowledged yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from shoal.core.actions import PublishRoutes
from shoal.core.copies import Copy
from shoal.core.types import CopyState, RouteCopy, RouteKey


@dataclass(slots=True)
class _Flip:
    """A change of revision that gateways may not all follow yet."""

    since: float
    version: int | None = None
    """The publication that made it; None until it is published."""


class RouteTable:
    """Published routes; only those that lead somewhere are kept."""

    def __init__(self) -> None:
        self.version = 0
        self.acknowledged = 0
        self._published: dict[RouteKey, tuple[RouteCopy, ...]] = {}
        self._dirty: dict[RouteKey, None] = {}
        self._withdrawn: dict[Copy, None] = {}
        self._unacknowledged: OrderedDict[Copy, int] = OrderedDict()
        """The version each withdrawn copy waits for, lowest first."""
        self._flips: OrderedDict[RouteKey, _Flip] = OrderedDict()
        """Those that gateways may not follow yet, in the order of their versions."""
        self._unpublished: list[_Flip] = []

    def get(self, key: RouteKey) -> tuple[RouteCopy, ...]:
        """What was published for a key."""
        return self._published.get(key, ())

    def __iter__(self) -> Iterator[RouteKey]:
        """Keys that lead somewhere."""
        return iter(self._published)

    def touch(self, key: RouteKey) -> None:
        """This key may lead elsewhere now."""
        self._dirty[key] = None

    def flip(self, key: RouteKey, now: float) -> None:
        """This key is about to lead to another revision: remember until every gateway follows."""
        self._flips.pop(key, None)
        self._flips[key] = flip = _Flip(now)
        self._unpublished.append(flip)
        self.touch(key)

    def end_flip(self, key: RouteKey, since: float) -> bool:
        """Wait no longer for gateways to follow the change of that time. Whether there was one to wait for."""
        flip = self._flips.get(key)
        if flip is None or flip.since != since:
            return False
        del self._flips[key]
        return True

    def is_flipping(self, key: RouteKey) -> bool:
        """Whether a gateway may still lead this key to the revision before."""
        return key in self._flips

    def withdraw(self, copy: Copy) -> None:
        """No route shall name this copy any more: it waits for the acknowledgement of the next publication."""
        self._withdrawn[copy] = None

    def publish(self, resolve: Callable[[RouteKey], tuple[RouteCopy, ...]]) -> PublishRoutes | None:
        """The change to publish, if there is any, and the version every withdrawn copy waits for."""
        changes: dict[RouteKey, tuple[RouteCopy, ...]] = {}
        for key in self._dirty:
            copies = resolve(key)
            if copies == self._published.get(key, ()):
                continue
            changes[key] = copies
            if copies:
                self._published[key] = copies
            else:
                del self._published[key]
        self._dirty.clear()
        if changes:
            self.version += 1
        for flip in self._unpublished:
            flip.version = self.version
        self._unpublished.clear()
        for copy in self._withdrawn:
            if copy.state is CopyState.WITHDRAWING:
                self._unacknowledged.pop(copy, None)  # it may wait for an earlier withdrawal that was taken back
                self._unacknowledged[copy] = self.version
        self._withdrawn.clear()
        return PublishRoutes(self.version, changes) if changes else None

    def take_acknowledged(self) -> Iterator[Copy]:
        """Withdrawn copies that no gateway routes to any more, each once."""
        while self._unacknowledged:
            copy, version = next(iter(self._unacknowledged.items()))
            if version > self.acknowledged:
                return
            del self._unacknowledged[copy]
            if copy.state is CopyState.WITHDRAWING:
                yield copy

    def take_flipped(self) -> list[RouteKey]:
        """Keys whose change of revision every gateway follows now, each once."""
        done: list[RouteKey] = []
        while self._flips:
            key, flip = next(iter(self._flips.items()))
            if flip.version is None or flip.version > self.acknowledged:
                break
            del self._flips[key]
            done.append(key)
        return done

    def acknowledge(self, version: int) -> None:
        """Every gateway runs with this version. Acknowledgements may come late, twice, or out of order."""
        self.acknowledged = max(self.acknowledged, min(version, self.version))
