"""What an adapter tells of losses of its model server: each incident is told to the core once, and first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from shoal.core.events import Event, ServerLost
from shoal.core.suspicion import Doing, Suspect
from shoal.core.types import RevisionId
from shoal.mesh.api import PodEndpoint
from shoal.mesh.metrics import Metrics
from shoal_protos.adapter import adapter_pb2 as adapter

INCIDENT_KEY: Final = "shoal-incident"
"""Trailing metadata of a load that failed because of an incident: its id."""
PATIENCE: Final = 2.0
"""Seconds a failed load waits for the incident it names to be told."""

_DOING: Final = {adapter.State.LOADING: Doing.LOADING, adapter.State.ANSWERING: Doing.ANSWERING}


class Incidents:
    """The incidents of one pod.

    Args:
        pod: whose they are.
        submit: how the core is told.
        metrics: counts them, and the requests that were under way.
    """

    def __init__(self, pod: PodEndpoint, submit: Callable[[Event], None], metrics: Metrics) -> None:
        self._pod = pod
        self._submit = submit
        self._metrics = metrics
        self._last: int | None = None
        self._told = asyncio.Event()

    def tell(self, state: Any) -> None:
        """Tell the core the incidents of a state that were not told yet.

        Those in the first state after the mesh connected are history: nothing follows from them any more.
        """
        newest = max((incident.id for incident in state.incidents), default=0)
        if self._last is None:
            self._last = newest
            return
        for incident in state.incidents:
            if incident.id > self._last:
                self._one(incident)
        if newest != self._last:
            self._last = newest
            self._told.set()
            self._told = asyncio.Event()

    def _one(self, incident: Any) -> None:
        suspects = tuple(Suspect(RevisionId(found.model_id), _DOING[found.doing]) for found in incident.suspects)
        self._metrics.server_lost(sum(found.requests for found in incident.suspects))
        hung = incident.kind == adapter.State.Incident.HUNG
        self._submit(ServerLost(self._pod.id, self._pod.runtime, suspects, incident.message, hung))

    async def told(self, metadata: Any) -> None:
        """Wait until the incident that a failed load names was told; at once if it names none."""
        for key, value in metadata or ():
            if key == INCIDENT_KEY and str(value).isdecimal():
                await self._until(int(value))

    async def _until(self, number: int) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while (self._last or 0) < number:
                    await self._told.wait()
        except TimeoutError:
            return
