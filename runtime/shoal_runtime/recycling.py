"""Ends a model server that cannot be freed of a model: once the mesh moved away what it serves, or after a while."""

from __future__ import annotations

import asyncio
import logging

from shoal_runtime import processes
from shoal_runtime.board import StateBoard
from shoal_runtime.drivers.base import Driver
from shoal_runtime.suspects import Suspects

log = logging.getLogger(__name__)

UNSEEN = (
    "its process cannot be seen or ended from here: let the pod's containers share their processes "
    "(shareProcessNamespace), or delete the pod"
)


class Recycler:
    """Of one model server, found by the port it listens on at `host`."""

    def __init__(self, board: StateBoard, driver: Driver, suspects: Suspects, host: str, max_seconds: float) -> None:
        self._board = board
        self._driver = driver
        self._suspects = suspects
        self._host = host
        self._max_seconds = max_seconds
        self._timer: asyncio.TimerHandle | None = None
        self.stuck: set[str] = set()
        """Models that go with the server only."""
        self.due = asyncio.Event()
        """The server shall be ended now."""
        self.ended = False
        """The server was ended, and no other one is ready yet."""
        self.unseen = False
        """It should have been ended and could not."""

    def begin(self, model_id: str, why: str) -> None:
        """The server is to be started anew because of this model. What is loaded goes on being served meanwhile."""
        self.stuck.add(model_id)
        if self._timer is None:
            self._board.set(recycling=f"the model server must be started anew: {why}")
            self._timer = asyncio.get_running_loop().call_later(self._max_seconds, self.due.set)

    def over(self) -> None:
        """Another server (or this one, freed) is about to be ready."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.stuck.clear()
        self.due.clear()
        self.ended = self.unseen = False
        self._board.set(recycling="")

    async def end(self) -> bool:
        """Kills the server's processes, so that it is started anew. False: they cannot be reached."""
        self.ended = self._suspects.end_living()
        port = self._driver.listening_port()
        process = None
        if port is not None:
            process = await asyncio.to_thread(processes.server_process, self._host, port)
        if process is not None and await asyncio.to_thread(processes.kill, process):
            self.ended = True
            log.warning("ended the model server, process %d", process.pid)
            return True
        # A server of ours ends itself when its notes say so, unless it is stuck in native code.
        self.ended = self.ended and await self._suspects.gone()
        self.unseen = not self.ended
        return self.ended
