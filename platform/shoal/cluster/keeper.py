"""Keeps one part of the control plane running: started, watched, ended when it hangs, started again with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shoal import process
from shoal.cluster.control_plane import ControlPlanePart
from shoal.cluster.errors import ClusterError
from shoal.cluster.report import PartReport, PartState
from shoal.process import Backoff, BackoffPolicy
from shoal.resources.lastwords import telling_line

log = logging.getLogger(__name__)
_PROBE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Patience:
    """When a part that was ready counts as hanging: not alive `failures` times in a row, asked every `period` seconds.

    A busy machine can keep a healthy process from answering for long; ending one that works costs more than waiting.
    """

    period: float = 5.0
    timeout: float = 5.0
    failures: int = 6
    proof: float = 5.0
    """Seconds for which a part has to be ready until its end says nothing about the next start: that comes at once."""


class Keeper:
    """Runs one part. `changed` is called whenever `report` changes."""

    def __init__(
        self,
        part: ControlPlanePart,
        log_path: Path,
        cwd: Path,
        env: Mapping[str, str],
        changed: Callable[[], None],
        patience: Patience | None = None,
    ) -> None:
        self.part = part
        self.report = PartReport()
        self._log = log_path
        self._cwd = cwd
        self._env = env
        self._changed = changed
        self._patience = patience or Patience()
        self._why_killed = ""
        self._why_renewed = ""
        self._backoff = Backoff(BackoffPolicy(first=0.2, most=10.0, healthy_after=self._patience.proof))
        self._ready_since: float | None = None
        self._child: process.Child | None = None
        self._ready = asyncio.Event()
        self._failed_starts = 0

    async def run(self) -> None:
        """Keep it running until cancelled; then use `stop`."""
        while True:
            code = await self._run_once()
            self._ready.clear()
            if self._why_renewed:
                log.info("%s is started anew: %s", self.part.name, self._why_renewed)
                self._why_renewed = ""
                continue
            self._backoff = self._backoff.ended(self._ready_for())
            why = (
                self._why_killed
                or f"ended with {_how(code)}: {telling_line(process.log_end(self._log)) or 'its log is empty'}"
            )
            self._why_killed = ""
            log.warning("%s %s; next start in %g s", self.part.name, why, self._backoff.delay)
            self._set(PartState.BACKING_OFF, why, None)
            self.report.restarts += 1
            await asyncio.sleep(self._backoff.delay)

    def _ready_for(self) -> float:
        """Seconds for which it was ready, the last time."""
        return 0.0 if self._ready_since is None else time.monotonic() - self._ready_since

    async def _run_once(self) -> int:
        self._ready_since = None
        try:
            command = process.Command(self.part.command(), self._env, self._cwd, self._log)
            self._child = await process.start(command)
        except OSError as error:
            self._why_killed = f"cannot be started: {error.strerror or error}"
            self._failed_starts += 1
            return 127
        self._set(PartState.STARTING, "", self._child.pid)
        watching = asyncio.create_task(self._watch())
        try:
            code = await self._child.wait()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        if not self._ready.is_set():
            self._failed_starts += 1
        return code

    async def _watch(self) -> None:
        """Probe until ready; from then on end it when it hangs, and keep its log bounded."""
        pid = self.report.pid
        while (missing := await _answer(self.part.ready)) is not None:
            if missing != self.report.message:
                self._set(PartState.STARTING, missing, pid)
            await asyncio.sleep(_PROBE_SECONDS)
        self._failed_starts = 0
        self._ready_since = time.monotonic()
        self._ready.set()
        self._set(PartState.READY, "", pid)
        failures = 0
        while failures < self._patience.failures:
            await asyncio.sleep(self._patience.period)
            process.trim_log(self._log)
            hanging = await self._hangs()
            failures = failures + 1 if hanging else 0
        if self._child is not None:
            self._why_killed = f"hung and was killed: {hanging}"
            process.signal_group(self._child.pid, signal.SIGKILL)

    async def _hangs(self) -> str | None:
        try:
            async with asyncio.timeout(self._patience.timeout):
                return await _answer(self.part.alive)
        except TimeoutError:
            return f"no answer within {self._patience.timeout:g} s"

    def _set(self, state: PartState, message: str, pid: int | None) -> None:
        self.report.state, self.report.message, self.report.pid = state, message, pid
        self.report.started = process.started(pid) if pid else None
        self._changed()

    async def wait_ready(self, timeout: float, most_failures: int = 3) -> None:
        """Wait until the part is ready.

        Raises:
            ClusterError: it ended `most_failures` times before it was ready, or took longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self._ready.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await self._ready.wait()
            if self._failed_starts >= most_failures:
                raise ClusterError(f"the {self.part.title} does not start: it {self._last_words()}; see {self._log}")
            if time.monotonic() > deadline:
                words = self.report.message or "it says nothing"
                raise ClusterError(f"the {self.part.title} is not ready after {timeout:g} s: {words}; see {self._log}")

    def _last_words(self) -> str:
        return self.report.message or f"ended; last line of its log: {telling_line(process.log_end(self._log))}"

    async def renew(self, grace: float, why: str) -> None:
        """Start it anew at once with what its command is now: SIGTERM, SIGKILL after `grace` seconds."""
        if self._child is not None:
            self._why_renewed = why
            await self._child.stop(grace)

    async def stop(self, grace: float) -> None:
        """End it: SIGTERM, SIGKILL after `grace` seconds."""
        if self._child is not None:
            await self._child.stop(grace)


async def _answer(probe: Callable[[], Awaitable[str | None]]) -> str | None:
    """What a probe says. One that breaks, as when the part ends meanwhile, must not end whoever starts it again."""
    try:
        return await probe()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
