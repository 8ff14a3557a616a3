"""Has the model server let go of models, and finds out when it cannot: then it must be started anew."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from shoal_runtime.charges import Charges
from shoal_runtime.drivers.base import Driver
from shoal_runtime.errors import NotReadyError, SilentError, StuckError
from shoal_runtime.incidents import ServerSuspect
from shoal_runtime.recycling import Recycler
from shoal_runtime.suspects import Handed, Suspects
from shoal_runtime.underway import Activity

log = logging.getLogger(__name__)

CONFIRM_SECONDS: Final = 5.0
"""Longest the server may take to confirm that a load which was over is gone."""
UNLOAD_SECONDS: Final = 50.0
"""Longest an unload may take: the server waits for requests under way (30 s unless told otherwise), then for the
model's own code. Shorter than the mesh waits, so that it is told."""
_TRIES: Final = 3
_LOOK_SECONDS: Final = 0.5


class Remover:
    """Of one model server. `down` is set while what became of a lost server is told."""

    def __init__(
        self, driver: Driver, suspects: Suspects, charges: Charges, recycler: Recycler, down: asyncio.Event
    ) -> None:
        self._driver = driver
        self._suspects = suspects
        self._charges = charges
        self._recycler = recycler
        self._down = down

    async def unload(self, model_id: str, seconds: float, doing: Activity, load: Handed | None = None) -> None:
        """When it returns the server does not hold the model.

        `doing` says what keeps the server busy if it does not confirm that in time: a load that was given up (`load`),
        or the unload itself.

        Raises:
            StuckError: the server answers, but cannot be freed of the model.
            NotReadyError: it does not answer, or still waits for requests under way.
        """
        if model_id in self._recycler.stuck:
            raise StuckError(f"model {model_id!r} goes when the model server is started anew")
        for _ in range(_TRIES):
            try:
                await self._driver.unload(model_id, seconds)
                return
            except SilentError as error:
                if self._suspects.draining(model_id):
                    raise
                if await self._driver.answers():
                    raise self._stuck(model_id, doing, load, str(error)) from None
                await self._answers_again(error)
                seconds = CONFIRM_SECONDS
        raise NotReadyError(f"the model server answers only now and then; model {model_id!r} may still be there")

    async def _answers_again(self, error: SilentError) -> None:
        """Something blocks the whole server. What that is, and whether it lasts, others find out."""
        while not self._down.is_set():
            if await self._driver.answers():
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise error

    def _stuck(self, model_id: str, doing: Activity, load: Handed | None, why: str) -> StuckError:
        what = "load" if doing is Activity.LOADING else "unload"
        message = f"the {what} of {model_id} does not end and cannot be given up ({why})"
        incident = self._charges.stuck(message, ServerSuspect(model_id, doing), load)
        self._recycler.begin(model_id, message)
        error = StuckError(message)
        error.incident = incident.id
        return error
