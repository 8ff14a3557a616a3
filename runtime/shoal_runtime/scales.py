"""Weighs models: asks /proc before and after each load, and keeps the book of sizes."""

from __future__ import annotations

import asyncio

from shoal_runtime import processes
from shoal_runtime.drivers.base import Artifact
from shoal_runtime.memory import GrowthMeter, SizeBook
from shoal_runtime.processes import ServerProcess


class Scales:
    """Sizes of the models of one model server."""

    def __init__(self, book: SizeBook) -> None:
        self.book = book
        self.process: ServerProcess | None = None
        """The server's process, if it can be seen."""
        self._meter = GrowthMeter()
        self._seen_formats: set[str] = set()

    def server_is(self, process: ServerProcess | None, warm_formats: frozenset[str] = frozenset()) -> None:
        """The server (maybe a new process) that is weighed from now on, and the formats whose libraries it holds."""
        if process != self.process:
            self.process, self._meter, self._seen_formats = process, GrowthMeter(), set(warm_formats)

    def begin(self, artifact: Artifact) -> None:
        """A load begins."""
        expected = self.book.predict(artifact.model_id, artifact.format, artifact.disk_bytes)
        self._meter.begin(artifact.model_id, expected, self._private_bytes())

    def failed(self, artifact: Artifact) -> None:
        """A load came to nothing."""
        self._meter.end(artifact.model_id, self._private_bytes())

    def finish(self, artifact: Artifact, stated_bytes: int) -> int:
        """A load succeeded: the bytes to count the model with. `stated_bytes`: what the server says, 0 nothing."""
        grown = self._meter.end(artifact.model_id, self._private_bytes())
        facts = (artifact.model_id, artifact.format, artifact.disk_bytes)
        if stated_bytes:
            self.book.learn(*facts, stated_bytes)
            return stated_bytes
        if grown is None or self._is_first(artifact.format):
            # The first model of a format brings its libraries along; they stay and are nobody's.
            return self.book.predict(*facts)
        return self.book.weigh(*facts, grown)

    async def process_bytes(self) -> int:
        """What the server's processes use together; 0 when it cannot be seen."""
        if self.process is None:
            return 0
        return await asyncio.to_thread(processes.proportional_bytes, self.process) or 0

    def _private_bytes(self) -> int | None:
        return None if self.process is None else processes.private_bytes(self.process)

    def _is_first(self, model_format: str) -> bool:
        first = model_format not in self._seen_formats
        self._seen_formats.add(model_format)
        return first
