"""Deaths and hangs of the model server, with what it was busy with; kept across restarts of the adapter."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from shoal_runtime.journal import read_document, write_document
from shoal_runtime.underway import Activity

log = logging.getLogger(__name__)

KEPT: Final = 16
MAX_SUSPECTS: Final = 1000
"""Most suspects of one incident; more are left out, and the incident is not complete."""


class IncidentKind(Enum):
    """As in `shoal.adapter.v1`."""

    DIED = 0
    HUNG = 1


@dataclass(frozen=True, slots=True)
class ServerSuspect:
    """A model the server was busy with. `requests`: how many were under way for it, when it was answering."""

    model_id: str
    doing: Activity
    requests: int = 0

    def __str__(self) -> str:
        if self.doing is Activity.ANSWERING:
            return f"answering {self.requests} request{'s' if self.requests != 1 else ''} to {self.model_id}"
        return f"{self.doing.name.lower()} {self.model_id}"


@dataclass(frozen=True, slots=True)
class ServerIncident:
    """One death or hang of the server."""

    id: int
    kind: IncidentKind
    message: str
    suspects: tuple[ServerSuspect, ...]
    complete: bool
    source: str = ""
    """Which server process it happened to, and if it hangs with one model only, which: so that it is noted once."""


class IncidentBook:
    """The last incidents of this pod, in a file below `<root>/_shoal`."""

    def __init__(self, root: Path) -> None:
        self._path = root / "_shoal" / "incidents.json"
        document = read_document(self._path)
        self.recent: tuple[ServerIncident, ...] = _parsed(document.get("recent"))
        """The newest last."""
        last = document.get("last")
        self._last = max([last if isinstance(last, int) else 0, *(incident.id for incident in self.recent)])

    def add(
        self, kind: IncidentKind, message: str, suspects: Sequence[ServerSuspect], *, complete: bool, source: str
    ) -> ServerIncident:
        """Notes an incident under the next number; one that is noted already is returned as it is."""
        for known in self.recent:
            if source and (known.source, known.kind) == (source, kind):
                return known
        chosen = tuple(suspects[:MAX_SUSPECTS])
        complete = complete and len(chosen) == len(suspects)
        self._last += 1
        incident = ServerIncident(self._last, kind, message, chosen, complete, source)
        self.recent = (*self.recent, incident)[-KEPT:]
        recent = [{**asdict(one), "kind": one.kind.name} for one in self.recent]
        try:
            write_document(self._path, {"last": self._last, "recent": recent})
        except OSError as error:
            log.warning("incident %d is not kept across a restart of the adapter: %s", incident.id, error)
        log.error("incident %d: %s", incident.id, message)
        return incident


def named(suspects: Sequence[ServerSuspect], most: int = 5) -> str:
    """The suspects in words; empty without any."""
    words = [str(suspect) for suspect in suspects[:most]]
    if len(suspects) > most:
        words.append(f"{len(suspects) - most} more")
    return ", ".join(words)


def _parsed(recent: Any) -> tuple[ServerIncident, ...]:
    found = []
    for one in recent if isinstance(recent, list) else ():
        try:
            suspects = tuple(replace(ServerSuspect(**s), doing=Activity(s["doing"])) for s in one["suspects"])
            found.append(ServerIncident(**{**one, "kind": IncidentKind[one["kind"]], "suspects": suspects}))
        except (TypeError, KeyError, ValueError) as error:
            log.warning("an incident noted earlier cannot be read: %s", error)
    return tuple(found[-KEPT:])
