"""One container of a pod: started, probed, restarted with back-off, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from shoal import process
from shoal.cluster.kubelet import memory, probes
from shoal.cluster.kubelet.containers import CannotStart, LocalCommand
from shoal.cluster.kubelet.podstatus import ContainerFact, Running, Terminated, Waiting
from shoal.process import Backoff, BackoffPolicy
from shoal.resources.lastwords import telling_line

log = logging.getLogger(__name__)
_MESSAGE_CHARACTERS = 300

Report = Callable[[str, str, str], Awaitable[None]]
"""Writes an event: type, reason, message."""


class Runner:
    """Keeps one container running as its pod's restart policy says.

    `resolve` gives the command anew before every start (secrets and images may have come meanwhile); `changed` is
    called after every change of `fact`.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        fact: ContainerFact,
        *,
        ip: str,
        log_path: Path,
        restart: str,
        policy: BackoffPolicy,
        resolve: Callable[[], LocalCommand],
        changed: Callable[[], None],
        report: Report,
    ) -> None:
        self.spec = spec
        self.fact = fact
        self._ip = ip
        self._log = log_path
        self._restart = restart
        self._backoff = Backoff(policy)
        self._resolve = resolve
        self._changed = changed
        self._report = report
        self._child: process.Child | None = None
        self._target: probes.ProbeTarget | None = None
        self._starting = asyncio.Lock()
        self._stopping = False
        self._retry = asyncio.Event()
        self._why_killed = ""
        self._log_start = 0

    def retry_now(self) -> None:
        """Something a waiting container may have waited for has changed."""
        if isinstance(self.fact.state, Waiting) and self.fact.state.reason != "CrashLoopBackOff":
            self._retry.set()

    def trim_log(self) -> None:
        """Keep the log bounded."""
        process.trim_log(self._log)

    async def run(self) -> None:
        """Run until the container is done for good or stopped."""
        while not self._stopping:
            child = await self._start()
            if child is None:
                await self._wait_to_retry()
                continue
            if not await self._attend(child):
                return

    async def _start(self) -> process.Child | None:
        async with self._starting:
            if self._stopping:
                return None
            command: LocalCommand | None = None
            try:
                command = self._resolve()
                log_start = self._log.stat().st_size if self._log.exists() else 0
                child = await process.start(process.Command(command.argv, command.env, Path(command.cwd), self._log))
            except CannotStart as error:
                await self._cannot(error.reason, str(error))
                return None
            except OSError as error:
                await self._cannot("RunContainerError", _cannot_run(error, command))
                return None
            self._log_start = log_start
            self._child, self._target = child, probes.ProbeTarget(self._ip, self.spec, command)
            self.fact.state = Running(child.started, child.pid)
            self.fact.ready = not (self.spec.get("readinessProbe") or self.spec.get("startupProbe"))
            self._changed()
            return child

    async def _cannot(self, reason: str, message: str) -> None:
        self._backoff = self._backoff.ended(0.0)
        waiting = Waiting(reason, message)
        if self.fact.state != waiting:
            self.fact.state = waiting
            self._changed()
            await self._report("Warning", "Failed", f"{self.fact.name}: {message}")

    async def _wait_to_retry(self) -> None:
        if self._stopping:
            return
        self._retry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.delay):
                await self._retry.wait()

    async def _attend(self, child: process.Child) -> bool:
        """Probe a running container until it ends. True if it shall be started again."""
        before = memory.kernel_kills()
        watching = [asyncio.create_task(self._probe()), asyncio.create_task(self._limit_memory(child))]
        try:
            code = await child.wait()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        if code == -signal.SIGKILL and memory.kernel_kills() > before:
            self._why_killed = self._why_killed or memory.OUT_OF_MEMORY
        message = "" if code == 0 else process.log_end(self._log, self._log_start)
        ended = Terminated(code, child.started, time.time(), message, self._why_killed)
        self._why_killed = ""
        self._child = None
        self.fact.ready = False
        again = not self._stopping and (self._restart == "Always" or (self._restart == "OnFailure" and code != 0))
        if not again:
            self.fact.state = ended
            self.fact.ready = code == 0 and self._restart != "Always" and not self._stopping
            self._changed()
            return False
        await self._back_off(ended)
        return not self._stopping

    async def _back_off(self, ended: Terminated) -> None:
        self._backoff = self._backoff.ended(ended.finished - ended.started)
        self.fact.last = ended
        self.fact.restarts += 1
        line = telling_line(ended.message)[:_MESSAGE_CHARACTERS]
        how = f"exit code {ended.exit_code}" + (f": {line}" if line else "")
        delay = self._backoff.delay
        self.fact.state = Waiting("CrashLoopBackOff", f"{ended.reason} with {how}; next start in {delay:g} s")
        self._changed()
        log.warning("container %s ended with %s; next start in %g s", self.fact.name, how, delay)
        # Without the delay, which grows: the same cause is one event, and counted.
        await self._report("Warning", "BackOff", f"{self.fact.name} ended with {how}; it will be started again")
        self._retry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._retry.wait()

    async def _probe(self) -> None:
        target = self._target
        if target is None:
            return
        startup, readiness, liveness = (
            self.spec.get(key) for key in ("startupProbe", "readinessProbe", "livenessProbe")
        )
        if startup and not await self._passes_startup(startup, target):
            return
        async with asyncio.TaskGroup() as group:
            if readiness:
                settings = probes.ProbeSettings.of(readiness)
                group.create_task(probes.watch(settings, target, self._set_ready, quick_start=True))
            else:
                await self._set_ready(True, "")
            if liveness:
                settings = probes.ProbeSettings.of(liveness)
                group.create_task(probes.watch(settings, target, self._set_alive, quick_start=False))

    async def _limit_memory(self, child: process.Child) -> None:
        """Kill the container once it takes far more memory than it may."""
        most = memory.most_bytes(self.spec)
        if most is None:
            return
        taken = await memory.exceeded(child.pid, most)
        self._why_killed = memory.OUT_OF_MEMORY
        process.signal_group(child.pid, signal.SIGKILL)
        limit = self.spec["resources"]["limits"]["memory"]
        message = f"{self.fact.name} took {taken / (1 << 20):.0f} MiB of memory, its limit is {limit}; it was killed"
        await asyncio.shield(asyncio.ensure_future(self._report("Warning", memory.OUT_OF_MEMORY, message)))

    async def _passes_startup(self, spec: dict[str, Any], target: probes.ProbeTarget) -> bool:
        settings = probes.ProbeSettings.of(spec)
        deadline = time.monotonic() + settings.delay + settings.period * settings.failures
        await asyncio.sleep(settings.delay)
        while True:
            why = await probes.ask(settings.action, target, settings.timeout)
            if why is None:
                return True
            if time.monotonic() >= deadline:
                await self._kill_unhealthy("startup", why)
                return False
            await asyncio.sleep(min(probes.STARTING_PERIOD, settings.period))

    async def _set_ready(self, well: bool, why: str) -> None:
        if self.fact.ready == well:
            return
        self.fact.ready = well
        self._changed()
        if not well:
            await self._report("Warning", "Unhealthy", f"{self.fact.name}: readiness probe failed: {why}")

    async def _set_alive(self, well: bool, why: str) -> None:
        if not well:
            await self._kill_unhealthy("liveness", why)

    async def _kill_unhealthy(self, probe: str, why: str) -> None:
        await self._report("Warning", "Unhealthy", f"{self.fact.name}: {probe} probe failed: {why}; it is restarted")
        self._why_killed = "Unhealthy"
        if self._child is not None:
            # Not awaited here: this very task ends when the process does.
            asyncio.get_running_loop().create_task(self._child.stop(5.0))

    async def prepare_stop(self, timeout: float) -> None:
        """Never restart from now on; run the preStop hook of a running container, at most `timeout` seconds."""
        self._stopping = True
        async with self._starting:
            hook = (self.spec.get("lifecycle") or {}).get("preStop")
            if not hook or self._child is None or self._target is None:
                return
        if "sleep" in hook:
            await asyncio.sleep(min(timeout, float(hook["sleep"].get("seconds", 0))))
            return
        why = await probes.ask(hook, self._target, timeout)
        if why is not None:
            await self._report("Warning", "FailedPreStopHook", f"{self.fact.name}: {why}")

    async def stop(self, grace: float) -> None:
        """End the process: SIGTERM, SIGKILL after `grace` seconds. It is not restarted."""
        self._stopping = True
        async with self._starting:
            child = self._child
        self._retry.set()
        if child is not None:
            await child.stop(grace)


def _cannot_run(error: OSError, command: LocalCommand | None) -> str:
    """`command` is None where its volumes could not be made ready."""
    if command is None:
        return f"the pod's volumes cannot be written: {error.filename or ''}: {error.strerror or error}"
    program = command.argv[0] if command.argv else ""
    if isinstance(error, FileNotFoundError) and Path(command.cwd).is_dir():
        return f"program {program!r} is not on this machine (PATH is searched, Python's own environment first)"
    return f"cannot run {program!r} in {command.cwd}: {error.strerror or error}"
