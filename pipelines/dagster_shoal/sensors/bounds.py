"""What keeps a tick short: a clock, a number of run requests, and a place to go on from next time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

C = TypeVar("C", bound=BaseModel)
Clock = Callable[[], float]


@dataclass(frozen=True)
class MetricBounds:
    """Of one tick. The code server ends a tick after 60 s, and then its cursor is lost."""

    seconds: float = 20.0
    """After this no further model is looked at."""
    requests: int = 20
    """Runs asked for at most."""
    models: int = 5_000
    """Looked at, at most."""

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 45:
            raise ValueError(f"seconds: {self.seconds:g} must be above 0 and at most 45; a tick is ended after 60 s")
        if not 1 <= self.requests <= 1_000:
            raise ValueError(f"requests: {self.requests} is not between 1 and 1000")
        if not 1 <= self.models <= 100_000:
            raise ValueError(f"models: {self.models} is not between 1 and 100000")


def in_turn(names: Sequence[str], after: str, bounds: MetricBounds, clock: Clock = time.monotonic) -> Iterator[str]:
    """Names in order, beginning behind `after` and going round once, until the time or the number is used up."""
    end = clock() + bounds.seconds
    ordered = sorted(names)
    start = next((index for index, name in enumerate(ordered) if name > after), 0)
    for name in (ordered[start:] + ordered[:start])[: bounds.models]:
        if clock() >= end:
            return
        yield name


def parsed(kind: type[C], text: str | None) -> C:
    """A cursor; a new one where there is none, or an older version of this program wrote it."""
    if not text:
        return kind()
    try:
        return kind.model_validate(json.loads(text))
    except (ValueError, ValidationError):
        return kind()
