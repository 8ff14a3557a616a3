"""Threads in which models are read from disk, so that the event loop goes on answering."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeAlias, TypeVar

from mlserver.model import MLModel

T = TypeVar("T")
Around: TypeAlias = Callable[[], AbstractContextManager[None]]

_SAFE_MODULES = ("mlserver_sklearn.", "mlserver_xgboost.", "mlserver_lightgbm.", "mlserver_mlflow.")
"""Packages whose `load` only reads files and touches nothing of the event loop."""
DEFAULT_THREADS = 2
MAX_THREADS = 64


def may_leave_loop(model: MLModel) -> bool:
    """Whether this model's `load` may run in a thread.

    A custom class says so with the attribute `load_off_loop = True`; others may hold on to the event loop (a client
    session, a task) and keep running on it.
    """
    if getattr(model, "load_off_loop", False):
        return True
    return f"{type(model).load.__module__}.".startswith(_SAFE_MODULES)


class Workers:
    """A bounded pool of threads."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="load")

    @classmethod
    def from_environment(cls) -> Workers:
        """As many threads as `SHOAL_LOAD_THREADS` says.

        Raises:
            ValueError: it is no number from 1 to 64.
        """
        text = os.environ.get("SHOAL_LOAD_THREADS") or str(DEFAULT_THREADS)
        if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
            raise ValueError(f"SHOAL_LOAD_THREADS={text!r} must be a whole number from 1 to {MAX_THREADS}")
        return cls(int(text))

    async def call(self, function: Callable[[], T]) -> T:
        """Runs a plain function in a thread.

        A cancelled caller still waits for it once it runs: a thread cannot be stopped. One that waits for a thread does
        not run any more.
        """
        context = contextvars.copy_context()
        running = self._pool.submit(context.run, function)
        future = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if running.cancel():
                raise
            if isinstance(function, _Drive):
                function.cancel()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise

    async def drive(self, function: Callable[[], Awaitable[T]], around: Around = nullcontext) -> T:
        """Runs a coroutine function to its end in a thread; if the caller is cancelled, so is the coroutine.

        `around` makes what is entered in the thread for as long as it runs.
        """
        return await self.call(_Drive(function, around))


class _Drive(Generic[T]):
    """A coroutine function with an event loop of its own, to be called in a thread and cancelled from another."""

    def __init__(self, function: Callable[[], Awaitable[T]], around: Around) -> None:
        self._function = function
        self._around = around
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[T]] | None = None
        self._cancelled = False

    def __call__(self) -> T:
        with self._around():
            return self._driven()

    def _driven(self) -> T:
        loop = asyncio.SelectorEventLoop()
        try:
            with self._lock:
                task = loop.create_task(self._run())
                self._running = loop, task
                if self._cancelled:
                    task.cancel()
            return loop.run_until_complete(task)
        finally:
            with self._lock:
                self._running = None
            loop.close()

    def cancel(self) -> None:
        """Cancels the coroutine at its next await, or before it begins."""
        with self._lock:
            self._cancelled = True
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    async def _run(self) -> T:
        return await self._function()
