"""Finds out what the model server was busy with when it died: by its own notes, else by what it was asked to load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_runtime import underway
from shoal_runtime.incidents import Incident, Suspect
from shoal_runtime.underway import Doing, Ending, Notes

GONE_SECONDS: Final = 3.0
"""Longest a process may take from closing its connections to its end."""
_LOOK_SECONDS: Final = 0.01


@dataclass(slots=True)
class Handed:
    """A load the server was asked for, and the incident that ended it."""

    model_id: str
    incident: Incident | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """A server process that is gone."""

    source: str
    suspects: tuple[Suspect, ...]
    complete: bool
    meant: bool
    """It was asked to end."""


class Suspects:
    """Of one model server. `folder` is where its processes leave their notes, if they do."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._handed: list[Handed] = []

    @contextlib.contextmanager
    def handed(self, load: Handed) -> Iterator[None]:
        """The server has this load from now on, until it confirmed that it is done with it or was given up."""
        self._handed.append(load)
        try:
            yield
        finally:
            self._handed.remove(load)

    def charge(self, incident: Incident) -> None:
        """The loads the server has now fail because of this incident."""
        for load in self._handed:
            load.incident = load.incident or incident

    async def deaths(self) -> list[Death]:
        """The processes that are gone, after a connection to the server broke. None: it did not die.

        A server without notes counts as dead.
        """
        ends = time.monotonic() + GONE_SECONDS
        while True:
            found, noting = self.past(), self._living()
            if found or noting is None:
                break
            if underway.read(noting).ending is Ending.STOPPING or time.monotonic() > ends:
                return []
            await asyncio.sleep(_LOOK_SECONDS)
        return found or [Death("", tuple(self._asked()), complete=False, meant=False)]

    def past(self) -> list[Death]:
        """The processes that are gone and left notes nobody has read."""
        gone = [path for path in self._files() if not underway.alive(path)]
        return [self._death(path.name, underway.read(path)) for path in gone]

    def forget(self, death: Death) -> None:
        """What happened is noted elsewhere."""
        if self._folder is not None and death.source:
            (self._folder / death.source).unlink(missing_ok=True)

    def _death(self, source: str, notes: Notes) -> Death:
        suspects = [
            *(Suspect(model_id, Doing.LOADING) for model_id in notes.of(Doing.LOADING)),
            *(Suspect(model_id, Doing.UNLOADING) for model_id in notes.of(Doing.UNLOADING)),
            *(Suspect(model_id, Doing.ANSWERING, count) for model_id, count in notes.of(Doing.ANSWERING).items()),
        ]
        if not notes.complete:
            known = {suspect.model_id for suspect in suspects if suspect.doing is Doing.LOADING}
            suspects += [suspect for suspect in self._asked() if suspect.model_id not in known]
        return Death(source, tuple(suspects), notes.complete, notes.ending is not Ending.NO)

    def _asked(self) -> list[Suspect]:
        return [Suspect(load.model_id, Doing.LOADING) for load in self._handed]

    def _living(self) -> Path | None:
        return next((path for path in reversed(self._files()) if underway.alive(path)), None)

    def _files(self) -> list[Path]:
        return [] if self._folder is None else underway.files(self._folder)
