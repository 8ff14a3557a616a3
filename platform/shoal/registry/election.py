"""The election of the one process that commands and writes to the registry: the leader."""

from __future__ import annotations

from typing import Protocol


class Election(Protocol):
    """How this process becomes the leader. All methods may raise `RegistryUnavailableError`.

    Every election is for a term, a number. A term ends with the next election at the latest, and what ends it is the
    store: a leader that was paused, or cut off, finds its commits rejected when it wakes, whatever its own clock says.
    """

    async def campaign(self) -> int:
        """Wait until this process is the leader: its term, larger than all before, and durable.

        From then on commits of earlier terms are rejected, also those of this process.

        Raises:
            RegistryError: it cannot become the leader, and waiting would not help.
        """

    async def lost(self) -> None:
        """Wait until the last term won here is known to be over: at the latest, when a commit of it was rejected."""

    async def resign(self) -> None:
        """Let another process be elected at once. Who resigns must not write any more, be it rejected or not."""
