"""Which pod: one with free space first, else the one whose eviction costs least.

A policy sees plain numbers and answers with a choice; it neither knows nor changes the state of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from shoal.core.types import PodId, Rejection


@dataclass(frozen=True, slots=True)
class Site:
    """One pod that may take the load."""

    pod: PodId
    fits: bool
    """Without evicting anything more."""
    evicts: int
    """How many copies must go."""
    costs: float
    """When the hottest of them was last used."""
    copies: int
    """Copies on it, on their way in included."""
    waiting: int
    """Loads queued or under way."""
    busy: float
    """Requests its copies served in about the last minute."""
    free_bytes: int
    spread: int
    """A number that differs between pods and between revisions, to break ties evenly and reproducibly."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where to load, and why not elsewhere."""

    pod: PodId
    because: str
    rejected: tuple[Rejection, ...]


PlacementPolicy: TypeAlias = Callable[[Sequence[Site]], Choice]
"""`(possible pods, at least one) -> choice`."""


def roomiest(sites: Sequence[Site]) -> Choice:
    """Prefer free space and few copies; among full pods prefer the one whose victims are coldest."""
    best = min(sites, key=_rank)
    rejected = tuple(Rejection(site.pod, _why_not(site, best)) for site in sites if site is not best)
    if best.fits:
        because = f"{best.free_bytes} bytes free, {best.copies} copies"
    elif best.evicts:
        because = f"evicts {best.evicts}, the coldest there are"
    else:
        because = "space is about to become free"
    return Choice(best.pod, because, rejected)


def _rank(site: Site) -> tuple[float, ...]:
    if site.fits:
        return (0, site.copies, site.waiting, site.busy, -site.free_bytes, site.spread)
    return (1, site.costs, site.waiting, site.copies, site.busy, site.spread)


def _why_not(site: Site, best: Site) -> str:
    if not best.fits:
        return "would evict something used more recently, or as recently with more loads waiting"
    if not site.fits:
        return f"is full; {site.evicts} would have to be evicted"
    if site.copies != best.copies:
        return f"has more copies: {site.copies}"
    if site.waiting != best.waiting:
        return f"has more loads waiting: {site.waiting}"
    return "equally good, but busier or not its turn"
