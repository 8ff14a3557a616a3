"""One lane per model: what is done with a model happens in turn, and goes on when the caller stops waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from shoal_runtime.errors import BusyError, NotReadyError

T = TypeVar("T")

MAX_WAITING = 4096
"""Most operations accepted and not finished, over all models."""


class Lanes:
    """Runs operations so that those of one model never overlap, in the order they came.

    A caller that is cancelled (its RPC was) cancels its operation too, but the operation keeps its lane until it has
    cleaned up, so that an unload that follows finds things settled.
    """

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self, model_id: str, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs one operation on a model once it is its turn.

        Raises:
            BusyError: too much is waiting.
            NotReadyError: `empty` interrupted it.
        """
        if len(self._tasks) >= MAX_WAITING:
            raise BusyError(f"{MAX_WAITING} operations are waiting in this pod; try another or later")
        task: asyncio.Task[T] = asyncio.create_task(self._in_turn(model_id, operation))
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise NotReadyError("interrupted, because the model server is being started or emptied") from None
            task.cancel()
            raise

    async def empty(self) -> None:
        """Cancels everything under way and waits until it has cleaned up."""
        while tasks := [task for task in self._tasks if task is not asyncio.current_task()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _in_turn(self, model_id: str, operation: Callable[[], Awaitable[T]]) -> T:
        lock, users = self._locks.get(model_id, (asyncio.Lock(), 0))
        self._locks[model_id] = (lock, users + 1)
        try:
            async with lock:
                return await operation()
        finally:
            lock, users = self._locks.pop(model_id)
            if users > 1:
                self._locks[model_id] = (lock, users - 1)

    def _finished(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()


async def uninterrupted(work: Coroutine[object, object, T]) -> T:
    """Awaits `work` to its end whatever happens; a cancellation meanwhile is raised afterwards."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return task.result()
