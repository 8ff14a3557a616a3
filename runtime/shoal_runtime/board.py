"""The adapter's state as others see it, and waiting for it to change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from shoal_runtime.drivers.base import ServerInfo
from shoal_runtime.incidents import ServerIncident


class Status(Enum):
    """As in `mmesh.ModelRuntime` and `shoal.adapter.v1`."""

    STARTING = 0
    READY = 1
    FAILING = 2


@dataclass(frozen=True, slots=True)
class View:
    """The state at one moment, without the models."""

    status: Status = Status.STARTING
    message: str = "the model server has not answered yet"
    incarnation: str = ""
    info: ServerInfo = field(default_factory=lambda: ServerInfo(version=""))
    process_bytes: int = 0
    cpu_pressure: float = 0.0
    """Of the machine, from 0 to 1."""
    incidents: tuple[ServerIncident, ...] = ()
    """The newest last."""
    recycling: str = ""
    """Why the server must be started anew, for which it takes no new models."""


class StateBoard:
    """Holds the state; everyone who waits is woken by each change, and sees the newest state only."""

    def __init__(self) -> None:
        self.view = View()
        self._models: dict[str, int] = {}
        self._version = 0
        self._changed = asyncio.Event()

    @property
    def models(self) -> Mapping[str, int]:
        """What is loaded and can answer, with its size in bytes."""
        return self._models

    def set(self, **changes: Any) -> None:
        """Changes fields of the view."""
        new = replace(self.view, **changes)
        if new != self.view:
            self.view = new
            self._wake()

    def add(self, model_id: str, size_bytes: int) -> None:
        """The model is loaded (or has another size)."""
        if self._models.get(model_id) != size_bytes:
            self._models[model_id] = size_bytes
            self._wake()

    def drop(self, model_id: str) -> None:
        """The model does not answer any more."""
        if self._models.pop(model_id, None) is not None:
            self._wake()

    def replace_models(self, models: Mapping[str, int]) -> None:
        """Exactly these are loaded."""
        if self._models != models:
            self._models = dict(models)
            self._wake()

    async def newer(self, version: int) -> int:
        """Waits until the state is newer than `version` (-1: any) and returns its version."""
        while self._version <= version:
            await self._changed.wait()
        return self._version

    def _wake(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()
