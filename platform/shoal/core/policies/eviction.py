"""What to evict: the least recently used first, until enough bytes are free.

A policy sees plain numbers and answers with a plan; it neither knows nor changes the state of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from shoal.core.types import RevisionId


@dataclass(frozen=True, slots=True)
class Candidate:
    """One loaded copy on the pod in question."""

    revision: RevisionId
    size_bytes: int
    last_used: float


@dataclass(frozen=True, slots=True)
class Need:
    """What eviction is for."""

    bytes: int
    """How many bytes must become free."""
    colder_than: float | None = None
    """Evict only copies last used before this; None: heat does not matter, something more important waits."""
    reluctant: frozenset[RevisionId] = frozenset()
    """Revisions that go only when nothing else is left."""


@dataclass(frozen=True, slots=True)
class EvictionPlan:
    """Who goes, in this order. `enough` is False when even all of them do not free what is needed."""

    victims: tuple[RevisionId, ...]
    enough: bool
    hottest: float
    """The latest last use among the victims: what the eviction costs."""
    spared: tuple[tuple[RevisionId, str], ...]
    """Colder copies that stay, and why."""


EvictionPolicy: TypeAlias = Callable[[Need, Iterable[Candidate], Callable[[RevisionId], str | None]], EvictionPlan]
"""`(need, copies coldest first, why a revision must stay or None) -> plan`."""


def least_recently_used(
    need: Need, coldest_first: Iterable[Candidate], protected: Callable[[RevisionId], str | None]
) -> EvictionPlan:
    """Evict in order of last use. Looks at no more copies than it must."""
    victims: list[RevisionId] = []
    spared: list[tuple[RevisionId, str]] = []
    last: list[Candidate] = []
    missing = need.bytes
    hottest = 0.0
    for copy in coldest_first:
        if missing <= 0 or (need.colder_than is not None and copy.last_used >= need.colder_than):
            break
        why = protected(copy.revision)
        if why is not None:
            spared.append((copy.revision, why))
        elif copy.revision in need.reluctant:
            last.append(copy)
        else:
            victims.append(copy.revision)
            missing -= copy.size_bytes
            hottest = max(hottest, copy.last_used)
    for copy in last:
        if missing <= 0:
            break
        victims.append(copy.revision)
        missing -= copy.size_bytes
        hottest = max(hottest, copy.last_used)
    return EvictionPlan(tuple(victims), missing <= 0, hottest, tuple(spared))
