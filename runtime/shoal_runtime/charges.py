"""Notes what happened to the model server, tells it on the board, and has the loads that failed of it say so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shoal_runtime.board import StateBoard
from shoal_runtime.incidents import IncidentBook, IncidentKind, ServerIncident, ServerSuspect, named
from shoal_runtime.suspects import Death, Handed, Suspects
from shoal_runtime.underway import Activity

LOAD_FIX: Final = "set `load_off_loop = True` on the model's class, or have its `load` do the work in a thread"


class Charges:
    """Of one model server."""

    def __init__(self, board: StateBoard, suspects: Suspects, book: IncidentBook) -> None:
        self._board = board
        self._suspects = suspects
        self._book = book
        board.set(incidents=book.recent)

    async def died(self, why: str, *, meant: bool) -> str:
        """After the connection broke: notes the death, if it is one, without telling it yet. Returns what to say.

        `meant`: a server that leaves no notes was asked to end.
        """
        for death in await self._suspects.deaths():
            if not (death.meant if death.source else meant):
                why = self._note_death(death, why).message
            self._suspects.forget(death)
        return why

    def look_back(self) -> None:
        """Tells of servers that died while nobody looked, if they were busy."""
        for death in self._suspects.past():
            if death.suspects and not death.meant:
                self._note_death(death, "the adapter was away")
            self._suspects.forget(death)
        self.tell()

    def hangs(self, seconds: float) -> str:
        """The server answers nothing: notes that, and charges what it does. Returns what to say."""
        suspects, complete = self._suspects.now()
        loads = [suspect for suspect in suspects if suspect.doing is not Activity.ANSWERING]
        blamed = loads or suspects
        message = f"the model server has answered nothing for {seconds:.0f} s while {named(blamed) or 'idle'}"
        if loads:
            message += f"; if a load needs so long, {LOAD_FIX}"
        elif not complete:
            message += "; requests under way are not known"
        incident = self._book.add(IncidentKind.HUNG, message, blamed, complete=complete, source=self._suspects.living())
        self._suspects.charge(incident)
        return message

    def stuck(self, message: str, suspect: ServerSuspect, load: Handed | None) -> ServerIncident:
        """One model keeps the server busy without end, while others are served. Tells it."""
        source = f"{living}/{suspect.model_id}" if (living := self._suspects.living()) else ""
        incident = self._book.add(IncidentKind.HUNG, message, [suspect], complete=True, source=source)
        if load is not None:
            load.incident = incident
        self.tell()
        return incident

    def tell(self, **changes: object) -> None:
        """Puts what is noted on the board, together with other changes of it."""
        self._board.set(incidents=self._book.recent, **changes)

    def _note_death(self, death: Death, why: str) -> ServerIncident:
        message = f"the model server died {_while(death.suspects)} ({why}"
        message += ")" if death.complete else "; requests under way are not known)"
        incident = self._book.add(
            IncidentKind.DIED, message, death.suspects, complete=death.complete, source=death.source
        )
        self._suspects.charge(incident)
        return incident


def _while(suspects: Iterable[ServerSuspect]) -> str:
    return f"while {busy}" if (busy := named(tuple(suspects))) else "while it was not busy with any model"
