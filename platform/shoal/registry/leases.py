"""Which leases there are and when each ends. No I/O, no clock of its own."""

from __future__ import annotations

from sortedcontainers import SortedSet


class Leases:
    """Leases by id, and in the order in which they end. Times are those of whatever clock the caller reads."""

    def __init__(self) -> None:
        self._length: dict[int, float] = {}
        self._end: dict[int, float] = {}
        self._order: SortedSet = SortedSet()

    def __contains__(self, lease: object) -> bool:
        return lease in self._end

    def __len__(self) -> int:
        return len(self._end)

    def start(self, lease: int, seconds: float, now: float) -> None:
        """Begin a lease, or begin it anew."""
        self.drop(lease)
        self._length[lease] = seconds
        self._end[lease] = now + seconds
        self._order.add((now + seconds, lease))

    def renew(self, lease: int, now: float) -> bool:
        """Begin a lease anew with its own length; False if there is none."""
        if lease not in self._length:
            return False
        self.start(lease, self._length[lease], now)
        return True

    def drop(self, lease: int) -> bool:
        """Forget a lease; False if there is none."""
        if lease not in self._end:
            return False
        self._order.discard((self._end.pop(lease), lease))
        del self._length[lease]
        return True

    def overdue(self, now: float) -> list[int]:
        """The leases that have ended by `now`, the earliest first."""
        ended = []
        for end, lease in self._order:
            if end > now:
                break
            ended.append(lease)
        return ended
