"""Probes and hooks: asks a container over HTTP, TCP or by a command whether it is well, or to get ready to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from shoal import process
from shoal.cluster.kubelet.containers import LocalCommand


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """The container to ask: its pod's address, its spec and how it was started."""

    ip: str
    spec: Mapping[str, Any]
    command: LocalCommand

    def port(self, value: int | str) -> int:
        """A port by number or by the name the container gives it.

        Raises:
            ValueError: no such name.
        """
        if isinstance(value, int):
            return value
        for port in self.spec.get("ports") or ():
            if port.get("name") == value:
                return int(port["containerPort"])
        return int(value)


async def ask(action: Mapping[str, Any], target: ProbeTarget, timeout: float) -> str | None:
    """Run one probe or hook: None if it went well, else what was wrong."""
    try:
        async with asyncio.timeout(timeout):
            if "httpGet" in action:
                return await _http(action["httpGet"], target)
            if "tcpSocket" in action or "grpc" in action:
                # The gRPC health protocol would need a channel for each probe; that it listens is what is asked here.
                return await _tcp(action.get("tcpSocket") or action["grpc"], target)
            if "exec" in action:
                return await _exec(action["exec"]["command"], target)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, httpx.HTTPError, ValueError) as error:
        return str(error) or type(error).__name__
    return f"unknown action {', '.join(action)}: use httpGet, tcpSocket, grpc or exec"


async def _http(spec: Mapping[str, Any], target: ProbeTarget) -> str | None:
    host = spec.get("host") or target.ip
    scheme = str(spec.get("scheme", "HTTP")).lower()
    url = f"{scheme}://{host}:{target.port(spec['port'])}{spec.get('path') or '/'}"
    headers = {header["name"]: header["value"] for header in spec.get("httpHeaders") or ()}
    # As with kubelets: the certificate is not checked, redirects are not followed; the caller bounds the time.
    async with httpx.AsyncClient(verify=False, timeout=None, trust_env=False) as client:
        response = await client.get(url, headers=headers)
    return None if 200 <= response.status_code < 400 else f"{url} answered {response.status_code}"


async def _tcp(spec: Mapping[str, Any], target: ProbeTarget) -> str | None:
    _, writer = await asyncio.open_connection(spec.get("host") or target.ip, target.port(spec["port"]))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def _exec(argv: list[str], target: ProbeTarget) -> str | None:
    started = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=dict(target.command.env),
        cwd=target.command.cwd,
        start_new_session=True,
    )
    try:
        code = await started.wait()
    finally:
        if started.returncode is None:
            process.signal_group(started.pid, signal.SIGKILL)
            await started.wait()
    return None if code == 0 else f"{argv[0]} exited with {code}"


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How often to ask and how many answers in a row count. Defaults are Kubernetes' own."""

    action: Mapping[str, Any]
    delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    failures: int = 3
    successes: int = 1

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> ProbeSettings:
        """From a probe's spec."""
        return cls(
            action={key: value for key, value in spec.items() if key in ("httpGet", "tcpSocket", "grpc", "exec")},
            delay=float(spec.get("initialDelaySeconds") or 0),
            period=float(spec.get("periodSeconds") or 10),
            timeout=float(spec.get("timeoutSeconds") or 1),
            failures=int(spec.get("failureThreshold") or 3),
            successes=int(spec.get("successThreshold") or 1),
        )


STARTING_PERIOD = 0.25
"""Until a container was ready once it is asked this often (seconds): a long period does not slow starting."""


async def watch(
    settings: ProbeSettings,
    target: ProbeTarget,
    changed: Callable[[bool, str], Awaitable[None]],
    *,
    quick_start: bool,
) -> None:
    """Ask for ever; `changed(well, why)` is called whenever the opinion changes.

    `quick_start`: ask every quarter of a second until the first success, as readiness and start-up probes want.
    """
    await asyncio.sleep(settings.delay)
    opinion: bool | None = None
    run, ever = 0, False
    last: bool | None = None
    while True:
        why = await ask(settings.action, target, settings.timeout)
        well = why is None
        ever = ever or well
        run = run + 1 if well == last else 1
        last = well
        if well != opinion and run >= (settings.successes if well else settings.failures):
            opinion = well
            await changed(well, why or "")
        await asyncio.sleep(settings.period if ever or not quick_start else min(STARTING_PERIOD, settings.period))
