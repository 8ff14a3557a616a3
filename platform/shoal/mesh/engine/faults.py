"""Defects of the mesh itself that showed at run time: counted, kept, and told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_MESSAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Fault:
    """One defect that showed.

    Attributes:
        at: seconds since 1970.
        message: what the mesh was doing, and the error.
    """

    at: float
    message: str


class Faults:
    """What went wrong inside the mesh since it started. It goes on serving; somebody should look at its log.

    Args:
        now: the clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._listeners: list[Callable[[Fault], None]] = []
        self.count = 0
        self.last: Fault | None = None

    def listen(self, listener: Callable[[Fault], None]) -> None:
        """Have `listener` called with every fault from now on, and with the last one if there was one already."""
        self._listeners.append(listener)
        if self.last is not None:
            listener(self.last)

    def note(self, doing: str, error: BaseException) -> None:
        """Something broke while the mesh was `doing` something."""
        self.count += 1
        self.last = Fault(self._now(), f"{doing}: {type(error).__name__}: {error}"[:MAX_MESSAGE])
        for listener in self._listeners:
            listener(self.last)
