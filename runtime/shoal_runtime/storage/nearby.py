"""What is there in place of a path that is not: most often the name was only mistyped."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

LOOKED_AT = 1000
"""Most names that are compared."""
_NAMED = 3
_LIKENESS = 0.6


def alike(name: str, there: Iterable[str]) -> list[str]:
    """The names of `there` that are most like `name`, whatever their case."""
    by_case = {entry.lower(): entry for entry in islice(there, LOOKED_AT)}
    return [by_case[match] for match in get_close_matches(name.lower(), by_case, _NAMED, _LIKENESS)]


def instead(name: str, there: Iterable[str], place: str) -> str:
    """A sentence on what `place` has instead of `name`: names like it, else the first ones."""
    names = list(islice(there, LOOKED_AT))
    if not names:
        return f"{place} is empty."
    if close := alike(name, names):
        return f"Is {' or '.join(map(repr, close))} meant?"
    shown = ", ".join(map(repr, sorted(names)[:_NAMED]))
    return f"{place} has {shown}{' and more' if len(names) > _NAMED else ''}."
