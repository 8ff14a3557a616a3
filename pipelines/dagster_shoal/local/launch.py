"""Starts the mesh and Dagster beside each other, waits until the code location is loaded, and ends all of it.

Webserver, daemon and code server are started at once, not one after the other as `dagster dev` does: half the time.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import yaml

from dagster_shoal.local.home import LaunchError, configure, owned, settle
from dagster_shoal.local.processes import MARK, LocalProgram, end
from dagster_shoal.stages import MODELS
from shoal.client.embedded import gateway_of
from shoal.listening import by, port_owner
from shoal.process import end_leftovers

HOST = "127.0.0.1"
_LOAD_SECONDS = 180.0
_GRACE_SECONDS = 15.0
_MESH_STOP_SECONDS = 90.0
_MOST_STARTS = 5
_POLL_SECONDS = 0.2
_UNREACHABLE = "DagsterUserCodeUnreachableError"
"""What the webserver says until the code server listens; anything else is the matter of the code itself."""
_LOCATIONS = """\
{ workspaceOrError { __typename
  ... on PythonError { message }
  ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename
    ... on PythonError { message className causes { message } }
    ... on RepositoryLocation { repositories { jobs { name } } } } } } } }"""
_RELOAD = "mutation($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"


@dataclass(frozen=True)
class Options:
    """What to run, and where."""

    state_dir: Path
    module: str = "dagster_shoal.example.definitions"
    location: str = "shoal_example"
    directory: Path = field(default_factory=Path.cwd)
    """Where modules are looked for that are not installed."""
    partitions: tuple[str, ...] = ()
    """Names of models to add to the partitions, so that there is something to press at once."""
    port: int = 3000
    """Of the UI; 0: any that is free."""
    mesh_arguments: tuple[str, ...] = ()
    """More arguments for `shoal up`."""
    mesh: bool = True
    """Start the embedded mesh if it does not run. Without: leave it as it is."""

    @property
    def home(self) -> Path:
        """`DAGSTER_HOME`."""
        return self.state_dir / "dagster"


@dataclass
class Launch:
    """One launch, from start to end."""

    options: Options
    say: Callable[[str], None]
    parts: dict[str, LocalProgram] = field(default_factory=dict)
    _mesh: subprocess.Popen[bytes] | None = None
    _mesh_is_ours: bool = False
    _stopped: bool = False
    _jobs: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Until SIGINT or SIGTERM.

        Raises:
            LaunchError: it cannot start, or a part ends again and again.
        """
        home = self.options.home
        with owned(home):
            # Set here, as a shell may have had them ignored, which children would inherit.
            before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                self._start()
                if self._wait_until_loaded():
                    self._ready()
                    self._keep()
            finally:
                self._end()
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True

    def _start(self) -> None:
        home = self.options.home
        if left := end_leftovers(str(home), MARK):
            self.say(f"ended {left} processes of a launch that was killed")
        configure(home)
        ui, code = port_for(self.options.port), port_for(0)
        location = {"grpc_server": {"host": HOST, "port": code, "location_name": self.options.location}}
        (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [location]}))
        self._make_parts(ui, code)
        self._start_mesh()
        # Before all parts, as it makes the databases: two processes that make them at the same time can break them
        # for good ("Version table 'alembic_version' has more than one head present").
        if closed := settle(home, MODELS.name or "", list(self.options.partitions)):
            self.say(f"closed {closed} runs that ended with an earlier launch")
        for part in self.parts.values():
            part.start()

    def _start_mesh(self) -> None:
        if not self.options.mesh or _shoal("status", self.options.state_dir, quiet=True).wait() == 0:
            return
        self._mesh_is_ours = True
        self._mesh = _shoal("up", self.options.state_dir, "--detach", *self.options.mesh_arguments)

    def _make_parts(self, ui: int, code: int) -> None:
        home = self.options.home
        logs = home / "output"  # not "logs": Dagster removes that when telemetry is off
        logs.mkdir(exist_ok=True)
        env = {
            **os.environ,
            MARK: str(home),
            "DAGSTER_HOME": str(home),
            "DAGSTER_URL": f"http://{HOST}:{ui}",
            "SHOAL_STATE_DIR": str(self.options.state_dir),
            "PYTHONUNBUFFERED": "1",
        }
        workspace = str(home / "workspace.yaml")
        module = ["--module-name", self.options.module, "--location-name", self.options.location]
        module += ["--working-directory", str(self.options.directory)]
        commands = {
            "code-server": ["dagster", "code-server", "start", "--host", HOST, "--port", str(code), *module],
            "webserver": ["dagster_webserver", "--host", HOST, "--port", str(ui), "--workspace", workspace],
            "daemon": ["dagster._daemon", "run", "--workspace", workspace],
        }
        self.parts = {
            name: LocalProgram(name, ["-m", *cmd], env, logs / f"{name}.log") for name, cmd in commands.items()
        }
        self._ui = f"http://{HOST}:{ui}"

    def _wait_until_loaded(self) -> bool:
        """True once all answer; False: asked to stop before."""
        deadline = time.monotonic() + _LOAD_SECONDS
        reload_at = 0.0
        missing = "the UI does not answer yet"
        while not self._stopped:
            self._watch()
            missing = self._location() or self._mesh_state()
            if not missing:
                return True
            if missing.startswith("error: ") and time.monotonic() > reload_at:
                # The webserver may have looked before the code server listened; it does not look again by itself.
                reload_at = time.monotonic() + 1.0
                _graphql(self._ui, _RELOAD, {"name": self.options.location})
            if time.monotonic() > deadline:
                logs = self.options.home / "output"
                raise LaunchError(f"not ready after {_LOAD_SECONDS:g} s: {missing}; see {logs}")
            time.sleep(_POLL_SECONDS)
        return False

    def _mesh_state(self) -> str:
        """Empty once the mesh is up."""
        if self._mesh is None:
            return ""
        code = self._mesh.poll()
        if code:
            raise LaunchError("the mesh could not be started, see above")
        return "" if code == 0 else "the mesh is starting"

    def _location(self) -> str:
        """Empty once the code location is loaded, else what is missing.

        Raises:
            LaunchError: its code cannot be loaded, which waiting does not mend.
        """
        answer = _graphql(self._ui, _LOCATIONS)
        if answer is None:
            return "the UI does not answer yet"
        found = answer["data"]["workspaceOrError"]
        for entry in found.get("locationEntries", []):
            result = entry["locationOrLoadError"] or {}
            if entry["loadStatus"] == "LOADING" or not result:
                return "the code location is loading"
            if result["__typename"] == "RepositoryLocation":
                self._jobs = {job["name"] for each in result["repositories"] for job in each["jobs"]}
                return ""
            if result.get("className") != _UNREACHABLE:
                log = self.options.home / "output" / "code-server.log"
                raise LaunchError(f"{self.options.module} cannot be loaded: {_reason(result)}\nAll of it is in {log}")
            return f"error: {result.get('message', '')[:2000]}"
        return f"error: {found.get('message', 'no code location')[:2000]}"

    def _ready(self) -> None:
        gateway = gateway_of(self.options.state_dir)
        about = {"ui": self._ui, "gateway": gateway, "parts": {name: part.pid for name, part in self.parts.items()}}
        self._tell(about)
        jobs = f"{self._ui}/locations/{self.options.location}/jobs"
        ends = "everything" if self._mesh_is_ours or not gateway else "Dagster; the mesh ran before and goes on"
        both = f"Train and roll out:   {jobs}/retrain\nRoll out again:       {jobs}/rollout\n"
        # Models with assets of their own have jobs of their own.
        links = both if {"retrain", "rollout"} <= self._jobs else f"Train, roll out:      {jobs}\n"
        self.say(
            f"\nDagster UI  {self._ui}\ngateway     {gateway or 'not running'}\n\n"
            f"{links}"
            f"Look at the assets:   {self._ui}/asset-groups\n\n"
            "On a job: the menu beside Materialize, Open launchpad, choose a partition, Materialize.\n"
            f"Ctrl-C ends {ends}."
        )

    def _tell(self, about: dict[str, Any]) -> None:
        """For other programs: where it is."""
        path = self.options.home / "launch.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(about, indent=2) + "\n")
        fresh.replace(path)

    def _keep(self) -> None:
        while not self._stopped:
            if self._watch():
                self._tell_again()
            time.sleep(_POLL_SECONDS)

    def _tell_again(self) -> None:
        path = self.options.home / "launch.json"
        about = json.loads(path.read_text())
        self._tell(about | {"parts": {name: part.pid for name, part in self.parts.items()}})

    def _watch(self) -> bool:
        """Start again what ended: whether anything did.

        Raises:
            LaunchError: it ended too often.
        """
        restarted = False
        for part in self.parts.values():
            if not part.starts or part.exit_code is None:
                continue
            if part.starts >= _MOST_STARTS:
                raise LaunchError(f"the {part.name} ended {part.starts} times:\n{part.last_words()}")
            self.say(f"the {part.name} ended (exit code {part.exit_code}) and is started again")
            part.start()
            restarted = True
        return restarted

    def _end(self) -> None:
        (self.options.home / "launch.json").unlink(missing_ok=True)
        if self.parts:
            self.say("ending Dagster")
            # First: runs that are ended tell the mesh what becomes of the rollouts they follow.
            end(list(self.parts.values()), _GRACE_SECONDS)
        if self._mesh is not None and self._mesh.poll() is None:
            self._mesh.send_signal(signal.SIGINT)
            self._mesh.wait(_MESH_STOP_SECONDS)
        if self._mesh_is_ours:
            _shoal("down", self.options.state_dir).wait(_MESH_STOP_SECONDS)


def _shoal(verb: str, state_dir: Path, *arguments: str, quiet: bool = False) -> subprocess.Popen[bytes]:
    """The `shoal` command; in a session of its own, as Ctrl-C at the terminal is dealt with here."""
    command = [sys.executable, "-c", "from shoal.cli.main import main; main()", verb, "--state-dir", str(state_dir)]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.Popen(
        [*command, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )


def port_for(wanted: int) -> int:
    """The wanted port of the loopback address, or any free one for 0.

    Raises:
        LaunchError: somebody listens there, or there is no such port.
    """
    if not 0 <= wanted <= 65535:
        raise LaunchError(f"--port: {wanted} is no port; choose one up to 65535, or 0 for any")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            holder = by(port_owner(wanted, HOST))
            raise LaunchError(f"port {wanted} is in use{holder}; choose another with --port, or 0 for any") from None
        return int(probe.getsockname()[1])


def _reason(error: dict[str, Any]) -> str:
    """Of the code that could not be loaded: what went wrong there first, without the layers above."""
    causes = [cause["message"] for cause in error.get("causes", [])]
    return str([error.get("message", ""), *causes][-1]).strip()[:2000]


def _graphql(ui: str, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any] | None:
    try:
        body = {"query": query, "variables": variables or {}}
        answer = httpx.post(f"{ui}/graphql", json=body, timeout=30.0, trust_env=False)
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    return found if answer.is_success else None
