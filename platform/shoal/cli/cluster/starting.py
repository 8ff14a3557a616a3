"""Starts, stops and shows the embedded cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.panel import Panel

from shoal import statedir
from shoal.cli.errors import CliError, CommandTimedOut, UsageProblem
from shoal.cli.output import note, show
from shoal.cluster import lock
from shoal.cluster.errors import AlreadyRunningError, ClusterError
from shoal.cluster.kubelet.containers import PORT_IN_USE
from shoal.cluster.layout import Layout
from shoal.cluster.prerequisites import require_model_server
from shoal.cluster.report import ClusterPhase, ClusterReport, PartState, read_report
from shoal.cluster.settings import ClusterSettings, load_settings
from shoal.resources.shape import parse_quantity

_START_SECONDS = 120.0
_PODS_SECONDS = 90.0
_POLL_SECONDS = 0.1
_TITLES = {"apiserver": "Kubernetes API", "mesh": "mesh and controller", "gateway": "gateway (Envoy)", "pods": "pods"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """Options of `shoal up`; None means as before, or the default."""

    pods_per_runtime: int | None
    pod_memory: str | None
    grpc_port: int | None
    rest_port: int | None
    namespace: str | None


def settings_for(root: Path, wishes: Wishes) -> ClusterSettings:
    """The options of the last start with these laid over them.

    Raises:
        UsageProblem: one of them is wrong.
    """
    before = load_settings(root)
    kept = before.model_dump() if before else {"state_dir": root}
    asked = {key: value for key, value in asdict(wishes).items() if value is not None}
    try:
        parse_quantity(wishes.pod_memory or "0")
    except ValueError as error:
        raise UsageProblem(f"--pod-memory: {error}") from None
    try:
        return ClusterSettings.model_validate(kept | asked)
    except ValidationError as error:
        problems = "; ".join(f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}" for e in error.errors())
        raise UsageProblem(problems) from None


def start(state_dir: Path | None, wishes: Wishes, *, detach: bool) -> None:
    """`shoal up`.

    Raises:
        CliError: it cannot start.
    """
    root = statedir.state_dir(state_dir)
    settings = settings_for(root, wishes)
    try:
        require_model_server()
    except ClusterError as error:
        raise CliError(str(error)) from None
    if detach:
        _start_detached(settings)
    else:
        _start_here(settings)


def _start_here(settings: ClusterSettings) -> None:
    from shoal.cluster.__main__ import run_supervisor

    progress = Progress(settings)
    try:
        run_supervisor(settings, progress)
    except ClusterError as error:
        raise CliError(str(error)) from None
    note("stopped; `shoal up` brings everything back")


def _start_detached(settings: ClusterSettings) -> None:
    from shoal.cluster.supervisor import prepare_state_dir

    layout = settings.layout
    try:
        prepare_state_dir(settings)
        running = lock.holder(layout.lock)
        if running is not None:
            raise AlreadyRunningError(
                f"Shoal already runs on {layout.root} as pid {running}; see `shoal status`, stop it with `shoal down`"
            )
    except ClusterError as error:
        raise CliError(str(error)) from None
    wishes = layout.root / "wishes.json"
    wishes.write_text(settings.model_dump_json())
    log_path = layout.log_of("supervisor")
    layout.status.unlink(missing_ok=True)
    begin = log_path.stat().st_size if log_path.exists() else 0
    with log_path.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "shoal.cluster", "--settings", str(wishes)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=layout.root,
        )
    _wait_until_ready(settings, process, log_path, begin)


def _wait_until_ready(settings: ClusterSettings, process: subprocess.Popen[bytes], log_path: Path, begin: int) -> None:
    progress = Progress(settings)
    deadline = time.monotonic() + _START_SECONDS
    ready_since: float | None = None
    try:
        while True:
            if process.poll() is not None:
                raise CliError(_last_error(log_path, begin))
            report = read_report(settings.layout.status)
            if report is not None:
                progress(report)
                if report.phase is ClusterPhase.READY:
                    ready_since = ready_since or time.monotonic()
                    if _pods_settled(report):
                        return
                    how = report.parts["pods"].message
                    if f": {PORT_IN_USE}: " in how:
                        raise CliError(f"the cluster runs, but its pods cannot start ({how})")
                    if time.monotonic() > ready_since + _PODS_SECONDS:
                        raise CommandTimedOut(
                            f"the cluster runs, but its pods are not ready after {_PODS_SECONDS:g} s ({how}); "
                            f"see `shoal get pods`, `shoal get events`; `shoal down` ends it"
                        )
            if ready_since is None and time.monotonic() > deadline:
                raise CommandTimedOut(
                    f"not ready after {_START_SECONDS:g} s; it goes on trying: `shoal status`, {log_path}"
                )
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        raise


def _pods_settled(report: ClusterReport) -> bool:
    pods = report.parts.get("pods")
    return pods is not None and pods.state is PartState.READY


def _last_error(log_path: Path, begin: int) -> str:
    with log_path.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"the supervisor ended; see {log_path}"


class Progress:
    """Tells what became ready, each once, then where everything is."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._console = Console(stderr=True, highlight=False)
        self._begin = time.monotonic()
        self._told: set[str] = set()
        self._panel_shown = False

    def __call__(self, report: ClusterReport) -> None:
        """Take a new report."""
        for name, part in report.parts.items():
            key = f"{name}:{part.state}:{part.restarts}:{part.message if name == 'pods' else ''}"
            if key in self._told:
                continue
            if part.state is PartState.READY:
                self._line("[green]✓[/]", f"{_TITLES[name]} ready" + (f" ({part.message})" if part.message else ""))
            elif name == "pods" and ": " in part.message:
                self._line("[yellow]![/]", f"pods {part.message}")
            elif part.state is PartState.BACKING_OFF:
                self._line("[yellow]![/]", f"{_TITLES[name]} {part.message}; it is started again")
            else:
                continue
            self._told.add(key)
        if report.phase is ClusterPhase.READY and not self._panel_shown:
            self._panel_shown = True
            self._console.print(self._panel(report))

    def _line(self, sign: str, text: str) -> None:
        self._console.print(f"{sign} {text} [dim]{time.monotonic() - self._begin:.1f} s[/]")

    def _panel(self, report: ClusterReport) -> Panel:
        where = "" if self._settings.state_dir == statedir.state_dir() else f" --state-dir {self._settings.state_dir}"
        text = (
            f"gRPC   {report.addresses.grpc}\n"
            f"REST   {report.addresses.rest}\n"
            f"API    export KUBECONFIG={self._settings.layout.kubeconfig}\n\n"
            f"[dim]next:[/]  shoal apply -f isvc.yaml{where}\n"
            f"       shoal wait isvc NAME --for Loaded{where}\n"
            f"       shoal top{where}\n"
            f"[dim]end:[/]   shoal down{where}"
        )
        return Panel.fit(text, title="Shoal is ready", border_style="green")


def stop(state_dir: Path | None, timeout: float) -> None:
    """`shoal down`.

    Raises:
        CliError: it cannot be stopped.
    """
    from shoal.process import end_leftovers

    root = statedir.state_dir(state_dir)
    layout = Layout(root)
    pid = lock.holder(layout.lock)
    if pid is None:
        ended = end_leftovers(str(root))
        note(f"nothing runs on {root}" + (f"; {ended} processes left behind were ended" if ended else ""))
        return
    if pid <= 0:
        raise CliError(f"the supervisor of {root} is starting; try again in a moment")
    _signal(pid, signal.SIGTERM)
    if not _wait_released(layout.lock, timeout):
        _signal(pid, signal.SIGKILL)
        _wait_released(layout.lock, 5.0)
        note(f"it did not stop within {timeout:g} s and was killed")
    end_leftovers(str(root))
    layout.status.unlink(missing_ok=True)
    note("stopped; `shoal up` brings everything back")


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise CliError(f"pid {pid} belongs to another user") from None


def _wait_released(path: Path, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while lock.holder(path) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def print_kubeconfig(state_dir: Path | None) -> None:
    """`shoal kubeconfig`.

    Raises:
        CliError: no cluster was started there.
    """
    root = statedir.state_dir(state_dir)
    try:
        show(Layout(root).kubeconfig.read_text().rstrip())
    except FileNotFoundError:
        raise CliError(f"no cluster was started on {root}; start it with `shoal up`") from None
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}") from None
