"""What one step of the core asks for, in the order that is part of its contract."""

from __future__ import annotations

from shoal.core.actions import Action, Answer, Changed, Persist, PersistRollout, PublishRoutes
from shoal.core.types import EndpointName, RevisionId


class Outbox:
    """The actions of one step, put into the order that is part of the contract.

    What a step left here because it broke is taken with the next one: nothing that was decided is lost.
    """

    def __init__(self) -> None:
        self.persists: list[Persist | PersistRollout] = []
        self.commands: list[Action] = []
        self.routes: list[PublishRoutes] = []
        self.answers: list[Answer] = []
        self.late: list[Action] = []
        self.endpoints: dict[EndpointName, None] = {}
        self.revisions: dict[RevisionId, None] = {}

    def take(self) -> list[Action]:
        """Everything since the last call: persist first, then adapters, routes, answers, and what may be reported."""
        actions: list[Action] = [*self.persists, *self.commands, *self.routes, *self.answers, *self.late]
        if self.endpoints or self.revisions:
            actions.append(Changed(frozenset(self.endpoints), frozenset(self.revisions)))
        self.__init__()  # type: ignore[misc]
        return actions
