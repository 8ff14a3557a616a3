"""What the parts of the mesh that work for rollouts are to each other."""

from __future__ import annotations

from typing import Protocol

from shoal.core.actions import AskCheck, WarmUpCopies


class Warmer(Protocol):
    """Sends sample requests to copies before users do."""

    def start(self, action: WarmUpCopies) -> None:
        """Begin; the core is told `WarmedUp` at the end, however it goes. A later one of the endpoint replaces it."""


class Asker(Protocol):
    """Asks webhooks and Prometheus servers."""

    def start(self, action: AskCheck) -> None:
        """Begin; the core is told `CheckAnswered` within the check's timeout."""
