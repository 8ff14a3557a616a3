"""What was seen of each load, turn by turn, and the rows that are made of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from bench.load import Load, Seen
from bench.rows import Row, of_turns


@dataclass(slots=True)
class Turns:
    """Of each load what was seen of it in each turn, under the name of what it went through."""

    seen: dict[tuple[str, Load], list[Seen]] = field(default_factory=dict)

    def add(self, name: str, load: Load, seen: Seen) -> None:
        """Turns of the same load differ in their seed."""
        self.seen.setdefault((name, replace(load, seed=1)), []).append(seen)

    def of(self, name: str, load: Load, figure: Callable[[Seen], float]) -> list[float]:
        """One figure of each turn."""
        return [figure(seen) for seen in self.seen[name, load]]

    @property
    def failed(self) -> int:
        """How many requests failed in all of them."""
        return sum(seen.failed for turns in self.seen.values() for seen in turns)


def cpu(seen: Seen) -> float:
    """Of the first process looked at."""
    return seen.cpu[0]


def rate(seen: Seen) -> float:
    return seen.rate


def p50(seen: Seen) -> float:
    return seen.all["p50"]


def p99(seen: Seen) -> float:
    return seen.all["p99"]


def four(group: str, load: Load, turns: Turns) -> Iterator[Row]:
    """What there is of every load; with the same load sent straight to a server beside it, where that was done."""
    servers = turns.of("gateway", load, lambda seen: sum(seen.cpu[1:]))
    yield of_turns(group, "CPU a request", turns.of("gateway", load, cpu), "us", f"the server {spelled(servers)} us")
    for name, unit, figure in (("requests/s", "", rate), ("p50", "ms", p50), ("p99", "ms", p99)):
        direct = ("direct", load) in turns.seen
        beside = f"{spelled(turns.of('direct', load, figure))} without a gateway" if direct else ""
        yield of_turns(group, name, turns.of("gateway", load, figure), unit, beside)


def spelled(figures: Sequence[float]) -> str:
    """Median, least and most."""
    middle = statistics.median(figures)
    digits = 2 if middle < 10 else 0
    return f"{middle:,.{digits}f} ({min(figures):,.{digits}f}-{max(figures):,.{digits}f})"


def ratios(figures: Sequence[float], others: Sequence[float]) -> list[float]:
    """Turn by turn, so that what else the machine did counts on both sides."""
    return [figure / other if other else float("inf") for figure, other in zip(figures, others, strict=True)]
