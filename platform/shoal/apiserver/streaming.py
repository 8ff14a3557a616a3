"""The HTTP side of a watch: a response that lasts, with bookmarks, a time limit, and an end when the client goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from shoal.apiserver import representation
from shoal.apiserver.kinds import Served
from shoal.apiserver.representation import Representation
from shoal.apiserver.watch import Event, Hub, Watch

BOOKMARK_SECONDS = 60.0
DEFAULT_TIMEOUT_SECONDS = 1800
MAX_TIMEOUT_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What the client asked of its watch."""

    form: Representation
    bookmarks: bool
    timeout: float
    """Seconds after which the server ends the watch; clients resume."""
    initial_end: bool = False
    """Mark the end of the initial events with a bookmark."""


class WatchResponse:
    """An ASGI application that plays one watch to one client."""

    def __init__(
        self,
        hub: Hub,
        kind: Served,
        opened: tuple[Watch, list[Event]],
        options: WatchOptions,
        version: Callable[[], int],
    ) -> None:
        self._hub = hub
        self._kind = kind
        self._watch, self._backlog = opened
        self._options = options
        self._version = version
        self._first = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client goes, the time is over or the watch is ended."""
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._play(send, gone)
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._hub.leave(self._watch)
            gone.cancel()

    async def _play(self, send: Send, gone: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.timeout
        # Sent even when empty: the client's call returns once the headers and first bytes are there.
        await self._send(send, b"".join(self._line(event) for event in self._backlog))
        if self._options.initial_end:
            await self._send(send, self._bookmark(initial_end=True))
        while not gone.done() and (left := deadline - loop.time()) > 0:
            events = await self._next(min(left, BOOKMARK_SECONDS), gone)
            if events is None:
                return
            if events:
                await self._send(send, b"".join(self._line(event) for event in events))
            elif self._options.bookmarks and not gone.done():
                await self._send(send, self._bookmark(initial_end=False))

    async def _next(self, seconds: float, gone: asyncio.Future[None]) -> list[Event] | None:
        """Return the next events (empty after `seconds` or when the client went), None when the watch is ended."""
        queue = self._watch.queue
        if queue.empty():
            getter = asyncio.ensure_future(queue.get())
            either: set[asyncio.Future[Any]] = {getter, gone}
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not getter.done():
                getter.cancel()
                return []
            found = [getter.result()]
        else:
            found = []
        while not queue.empty() and len(found) < 500:
            found.append(queue.get_nowait())
        if None in found:
            return None
        return [event for event in found if event is not None]

    def _line(self, event: Event) -> bytes:
        headers, self._first = self._first, False
        return representation.event(self._kind, event, self._options.form, headers=headers)

    def _bookmark(self, *, initial_end: bool) -> bytes:
        return representation.bookmark(self._kind, self._version(), self._options.form, initial_end=initial_end)

    async def _send(self, send: Send, body: bytes) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
