"""The command line itself: help, usage errors, exit codes, without a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from shoal.cli.main import app, run
from shoal.statedir import state_dir
from support.cli import shoal


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_teaches_with_an_example(path: tuple[str, ...], command: Any):
    assert "Example" in (command.help or ""), path


def test_all_verbs_are_there():
    verbs = {path[0] for path, _ in COMMANDS}
    wanted = "up down status kubeconfig version apply get describe delete wait infer logs top why pvc runtime"
    wanted += " rollout package release"
    assert verbs == set(wanted.split())


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from shoal.cli.main import run; run(['--help']);"
        "print([m for m in ('kubernetes', 'grpc', 'httpx', 'aiohttp', 'yaml') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_version(tmp_path: Path):
    done = shoal("version", state_dir=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("shoal ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nonsense"], 2, "nonsense"),
        (["get"], 2, "KIND"),
        (["get", "isvc", "-o", "xml"], 2, "xml"),
        (["up", "--grpc-port", "70000"], 2, "65535"),
        (["up", "--pod-memory", "lots"], 2, "--pod-memory: 'lots' is not a quantity"),
        (["wait", "isvc", "x", "--timeout", "soon"], 2, "'soon' is not a duration"),
        (["delete"], 2, "shoal delete KIND NAME"),
        (["get", "isvc"], 1, "; start it with `shoal up` or name another with --state-dir"),
        (["kubeconfig"], 1, "error: no cluster was started on "),
        (["status"], 1, "nothing runs on"),
        (["infer", "x", "-f", "/no/such/file"], 1, "/no/such/file: No such file"),
        (["apply", "-f", "/no/such/file"], 1, "/no/such/file: No such file"),
        (["pvc", "create", "Wrong_Name", "--from", "/"], 2, "lower-case"),
        (["pvc", "create", "x", "--from", "/no/such/file"], 1, "does not exist"),
        (["--kubeconfig", "x"], 2, "--kubeconfig"),
        (["get", "isvc", "--kubeconfig", "/no/such/file"], 1, "the kubeconfig /no/such/file cannot be used"),
    ],
)
def test_errors_are_one_clear_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SHOAL_STATE_DIR", str(tmp_path))
    assert run(arguments) == code
    err = capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [}", "line 1"),
        ("a: 1\na: 2", "key 'a' is given twice"),
        ("- 1", "a manifest is a mapping"),
        ("kind: X\nmetadata: {name: x}", "apiVersion is missing"),
        ("apiVersion: v1\nkind: X", "metadata.name is missing"),
        ("", "no objects in there"),
    ],
)
def test_wrong_manifests_are_named(
    text: str, message: str, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SHOAL_STATE_DIR", str(tmp_path))
    path = tmp_path / "m.yaml"
    path.write_text(text)
    assert run(["apply", "-f", str(path)]) == 1
    err = capfd.readouterr().err
    assert message in err
    assert str(path) in err


def test_state_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("SHOAL_STATE_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_dir() == tmp_path / "shoal"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir() == tmp_path / ".local" / "state" / "shoal"
    monkeypatch.setenv("SHOAL_STATE_DIR", "/elsewhere")
    assert state_dir() == Path("/elsewhere")
    assert state_dir("~/here") == tmp_path / "here"
