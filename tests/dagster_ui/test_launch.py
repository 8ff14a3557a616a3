"""`python -m dagster_shoal up`, which `make pipelines` calls: what it says, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import dagster as dg
from dagster_shoal.__main__ import main, options_of
from dagster_shoal.local import launch
from dagster_shoal.local.home import LaunchError, configure, owned, settle
from dagster_shoal.local.launch import Launch, Options, port_for
from dagster_shoal.local.processes import MARK, LocalProgram, end
from shoal.process import end_leftovers
from support.dagster_ui import Stack, listens_on, marked
from waiting import eventually

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
STUBBORN = """\
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print('ready', flush=True)
time.sleep(600)
"""


def part(folder: Path, program: str) -> LocalProgram:
    return LocalProgram("part", ["-c", program], {**os.environ, MARK: str(folder)}, folder / "part.log")


def test_a_part_ends_with_its_children_even_if_it_does_not_want_to(tmp_path: Path):
    stubborn = part(tmp_path, STUBBORN)
    stubborn.start()
    eventually(lambda: "ready" in stubborn.last_words(), "it runs")
    assert len(marked(tmp_path)) == 2
    end([stubborn], grace=0.5)
    assert stubborn.exit_code == -signal.SIGKILL
    eventually(lambda: not marked(tmp_path), "nothing is left")


def test_what_a_killed_launch_left_is_ended_by_the_next(tmp_path: Path):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    left = subprocess.Popen(command, env={**os.environ, MARK: str(tmp_path)})
    other = subprocess.Popen(command, env={**os.environ, MARK: str(tmp_path / "other")})
    try:
        assert end_leftovers(str(tmp_path), MARK) == 1
        assert left.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_home_has_one_owner(tmp_path: Path):
    with owned(tmp_path), pytest.raises(LaunchError, match=f"already runs .* as pid {os.getpid()}"), owned(tmp_path):
        pass
    with owned(tmp_path):
        pass


def test_an_instance_config_of_the_user_stays(tmp_path: Path):
    configure(tmp_path)
    config = yaml.safe_load((tmp_path / "dagster.yaml").read_text())
    assert config["telemetry"] == {"enabled": False}
    assert config["concurrency"]["runs"]["tag_concurrency_limits"][0]["key"] == "shoal/model"
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    configure(tmp_path)
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_a_port_in_use_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LaunchError, match=f"in use by pid {os.getpid()} "):
            port_for(port)
        assert main(["up", "--state-dir", str(tmp_path), "--port", str(port), "--no-mesh"]) == 1
    assert "choose another with --port" in capsys.readouterr().err


def test_a_number_that_is_no_port_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["up", "--state-dir", str(tmp_path), "--port", "99999", "--no-mesh"]) == 1
    assert "--port: 99999 is no port" in capsys.readouterr().err


def test_options_of_the_mesh_come_after_two_dashes(tmp_path: Path):
    options = options_of(["up", "--state-dir", str(tmp_path), "--port", "0", "--", "--grpc-port", "9033"])
    assert options.mesh_arguments == ("--grpc-port", "9033")
    assert options.home == tmp_path / "dagster"
    assert options.partitions == ("digits", "digits-forest")
    assert options.location == "shoal_example"
    mine = options_of(["up", "--module", "mine.definitions"])
    assert (mine.partitions, mine.location) == ((), "mine")
    assert options_of(["up", "--module", "mine.definitions", "--location", "ours"]).location == "ours"


@pytest.mark.server
@pytest.mark.slow
def test_a_module_of_the_current_directory_that_cannot_be_loaded_ends_it_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "not_installed.py").write_text("raise ValueError('the words of its author')\n")
    monkeypatch.chdir(tmp_path)
    given = ["--module", "not_installed", "--state-dir", str(tmp_path / "state"), "--port", "0", "--no-mesh"]
    assert main(["up", *given]) == 1
    assert "not_installed cannot be loaded: ValueError: the words of its author" in capsys.readouterr().err
    assert not marked(tmp_path / "state" / "dagster")


@pytest.mark.server
def test_nothing_of_dagster_runs_before_its_databases_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def looked(home: Path, partitions: str, names: list[str]) -> int:
        raise LaunchError(f"{len(marked(home))} processes run")

    monkeypatch.setattr(launch, "settle", looked)
    assert main(["up", "--state-dir", str(tmp_path), "--port", "0", "--no-mesh"]) == 1
    assert "0 processes run" in capsys.readouterr().err


ENDLESS = """\
import sys, time
import dagster as dg

@dg.op
def work(): time.sleep(600)

@dg.job(executor_def=dg.in_process_executor)
def rollout(): work()

with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    rollout.execute_in_process(instance=instance)
"""


def test_runs_that_ended_with_their_machine_are_closed_by_the_next_launch(tmp_path: Path):
    configure(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        # The run's process: nobody tells Dagster that it is gone.
        orphan = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)], stderr=subprocess.DEVNULL)
        try:
            started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
            (run,) = eventually(lambda: instance.get_runs(started), "the run has started", 180)
        finally:
            orphan.kill()
            orphan.wait()
        assert settle(tmp_path, "models", ["digits"]) == 1
        closed = instance.get_run_by_id(run.run_id)
        assert closed is not None
        assert closed.status is dg.DagsterRunStatus.FAILURE
        assert "run it again" in instance.all_logs(run.run_id)[-1].message
        assert instance.get_dynamic_partitions("models") == ["digits"]
        assert settle(tmp_path, "models", []) == 0, "a run that has ended stays as it is"


def test_it_links_to_jobs_that_there_are(tmp_path: Path):
    said: list[str] = []
    own = Launch(Options(state_dir=tmp_path, location="ours"), said.append)
    own.options.home.mkdir()
    own._ui, own._jobs = "http://ui", {"fraud__retrain", "fraud__rollout"}
    own._ready()
    own._jobs |= {"retrain", "rollout"}
    own._ready()
    assert "http://ui/locations/ours/jobs\n" in said[0]
    assert "/jobs/retrain" not in said[0]
    assert "http://ui/locations/ours/jobs/retrain\n" in said[1]


@pytest.mark.server
@pytest.mark.slow
def test_all_listen_on_loopback_only(stack: Stack):
    for name in ("webserver", "code-server", "daemon"):
        addresses = listens_on(stack.part(name))
        assert set(addresses) <= LOOPBACK, addresses
        assert addresses or name == "daemon"


@pytest.mark.server
@pytest.mark.slow
def test_a_second_launch_on_the_same_home_is_refused(stack: Stack, capsys: pytest.CaptureFixture[str]):
    assert main(["up", "--state-dir", str(stack.cluster.root), "--port", "0", "--no-mesh"]) == 1
    assert "already runs" in capsys.readouterr().err
    assert stack.dagster.ask("{ version }")["version"]
