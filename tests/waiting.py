"""Waiting for what nobody tells: tests ask again and again, for a bounded time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")
_MOST_TEXT: Final = 2000
"""How much of the last answer a failure shows."""
_MOST_CODE: Final = 400


def eventually(look: Callable[[], T], what: str = "", seconds: float = 60.0, every: float = 0.05) -> T:
    """The first true answer of `look`. `what`: what is waited for, where the code of `look` does not say it."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > ends:
            raise AssertionError(_complaint(look, what, seconds, found))
        time.sleep(every)
    return found


async def until(look: Callable[[], Awaitable[T] | T], what: str = "", seconds: float = 60.0, every: float = 0.02) -> T:
    """The same for asynchronous tests, whose other tasks go on meanwhile; `look` may be asynchronous, too."""
    ends = time.monotonic() + seconds
    while True:
        answer = look()
        found = await answer if inspect.isawaitable(answer) else cast("T", answer)
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(_complaint(look, what, seconds, found))
        await asyncio.sleep(every)


def _complaint(look: Callable[[], Any], what: str, seconds: float, last: object) -> str:
    text = f"not within {seconds:g} s: {what or _source(look)}"
    shown = repr(last)
    # That an answer was None or False is no news.
    return text if last is None or last is False else f"{text}; the last answer was {shown[:_MOST_TEXT]}"


def _source(look: Callable[[], Any]) -> str:
    """The code of a function; its name, where there is none."""
    try:
        return " ".join(inspect.getsource(look).split())[:_MOST_CODE]
    except (OSError, TypeError):
        return getattr(look, "__qualname__", repr(look))
