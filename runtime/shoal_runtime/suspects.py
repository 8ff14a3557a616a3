"""Finds out what the model server was busy with when it died: by its own notes, else by what it was asked to load."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_runtime import underway
from shoal_runtime.incidents import ServerIncident, ServerSuspect
from shoal_runtime.underway import Activity, Ending, Notes

log = logging.getLogger(__name__)

GONE_SECONDS: Final = 3.0
"""Longest a process may take from closing its connections to its end."""
_LOOK_SECONDS: Final = 0.01


@dataclass(slots=True)
class Handed:
    """A load the server was asked for, and the incident that ended it."""

    model_id: str
    incident: ServerIncident | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """A server process that is gone."""

    source: str
    suspects: tuple[ServerSuspect, ...]
    complete: bool
    meant: bool
    """It was asked to end."""


class Suspects:
    """Of one model server. `folder` is where its processes leave their notes, if they do."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._handed: list[Handed] = []
        self._meant: set[str] = set()

    @contextlib.contextmanager
    def handed(self, load: Handed) -> Iterator[None]:
        """The server has this load from now on, until it confirmed that it is done with it or was given up."""
        self._handed.append(load)
        try:
            yield
        finally:
            self._handed.remove(load)

    def charge(self, incident: ServerIncident) -> None:
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
            self._meant.discard(death.source)

    def living(self) -> str:
        """The name of the server process that lives; empty: not known."""
        living = self._living()
        return "" if living is None else living.name

    def now(self) -> tuple[list[ServerSuspect], bool]:
        """What the server that lives is busy with, and whether that is all."""
        living = self._living()
        return _suspects(underway.read(living) if living else Notes(complete=False), self._asked())

    def loading(self) -> bool:
        """Whether the server that lives loads (or unloads) something."""
        return any(suspect.doing is not Activity.ANSWERING for suspect in self.now()[0])

    def draining(self, model_id: str) -> bool:
        """Whether an unload of this model waits for its requests."""
        living = self._living()
        notes = underway.read(living) if living else Notes()
        return model_id in notes.of(Activity.ANSWERING) and model_id not in notes.of(Activity.UNLOADING)

    def end_living(self) -> bool:
        """Tells the server that lives to end at once. False: it leaves no notes and looks at none."""
        living = self._living()
        if living is None:
            return False
        self._meant.add(living.name)
        try:
            underway.end_at_once(living)
        except OSError as error:
            log.warning("the model server cannot be told to end: %s", error)
            return False
        return True

    async def gone(self) -> bool:
        """Waits for the server that was told to end; whether it did."""
        ends = time.monotonic() + GONE_SECONDS
        while self._living() is not None:
            if time.monotonic() > ends:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    def _death(self, source: str, notes: Notes) -> Death:
        suspects, complete = _suspects(notes, self._asked())
        return Death(source, tuple(suspects), complete, notes.ending is not Ending.NO or source in self._meant)

    def _asked(self) -> list[ServerSuspect]:
        return [ServerSuspect(load.model_id, Activity.LOADING) for load in self._handed]

    def _living(self) -> Path | None:
        return next((path for path in reversed(self._files()) if underway.alive(path)), None)

    def _files(self) -> list[Path]:
        return [] if self._folder is None else underway.files(self._folder)


def _suspects(notes: Notes, asked: list[ServerSuspect]) -> tuple[list[ServerSuspect], bool]:
    """What a server was busy with; notes that miss something are completed by what it was asked to load."""
    suspects = [
        *(ServerSuspect(model_id, Activity.LOADING) for model_id in notes.of(Activity.LOADING)),
        *(ServerSuspect(model_id, Activity.UNLOADING) for model_id in notes.of(Activity.UNLOADING)),
        *(
            ServerSuspect(model_id, Activity.ANSWERING, count)
            for model_id, count in notes.of(Activity.ANSWERING).items()
        ),
    ]
    if not notes.complete:
        known = {suspect.model_id for suspect in suspects if suspect.doing is Activity.LOADING}
        suspects += [suspect for suspect in asked if suspect.model_id not in known]
    return suspects, notes.complete
