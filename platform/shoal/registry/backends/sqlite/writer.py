"""The thread that writes to a registry's file: it takes all that waits and does it in one transaction, in one sync."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from shoal.registry.backends.sqlite.file import SqliteFile
from shoal.registry.protocol import FencedError, RegistryUnavailableError

T = TypeVar("T")
MAX_BATCH = 1000
"""Most writes of one transaction."""
MAX_WAITING = 20_000
"""Most writes that wait; further ones are refused at once."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    write: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]


class RegistryWriter:
    """Does writes in the order in which it is asked; must be made inside a running event loop."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="registry-writer", daemon=True)
        self._thread.start()
        self.closed = False

    def do(self, write: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Have something written, by the thread.

        Args:
            write: if it raises FencedError it must not have changed anything: others' writes are in the same
                transaction.

        Raises:
            RegistryUnavailableError: too many wait already, or the registry is closed. The future may tell of others.
        """
        if self.closed:
            raise RegistryUnavailableError("the registry is closed")
        if self._queue.qsize() >= MAX_WAITING:
            raise RegistryUnavailableError(f"{MAX_WAITING} writes wait already; try again later")
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Waiting(write, done))
        return done

    async def close(self) -> None:
        """Finish what was asked."""
        if not self.closed:
            self.closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            item = self._queue.get()
            batch: list[_Waiting] = []
            while item is not None:
                batch.append(item)
                if len(batch) == MAX_BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            stopping = item is None
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Waiting]) -> None:
        connection = self._file.writer
        outcomes: list[Any] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [_outcome(waiting, connection) for waiting in batch]
            connection.execute("COMMIT")
        except Exception as error:  # Whatever went wrong, those who wait get an answer and the thread lives on.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            outcomes = [self._file.refusal(error)] * len(batch)
        try:
            self._loop.call_soon_threadsafe(_answer, batch, outcomes)
        except RuntimeError:
            pass  # The event loop is gone, and with it whoever waited.


def _outcome(waiting: _Waiting, connection: sqlite3.Connection) -> Any:
    try:
        return waiting.write(connection)
    except FencedError as error:
        return error


def _answer(batch: list[_Waiting], outcomes: list[Any]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if waiting.done.done():
            continue
        if isinstance(outcome, Exception):
            waiting.done.set_exception(outcome)
        else:
            waiting.done.set_result(outcome)
