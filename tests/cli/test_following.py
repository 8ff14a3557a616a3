"""The verbs that go on: watches, followed logs, the live view; and a cluster named by its kubeconfig."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from shoal.cli.cluster.starting import _wait_until_ready
from shoal.cluster.report import ClusterAddresses, ClusterPhase, ClusterReport, PartReport, PartState, write_report
from shoal.cluster.settings import ClusterSettings
from support.cli import CONFIG, SERVICE, SHOAL, shoal

pytestmark = pytest.mark.server


class Following:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())

    def until(self, wanted: Callable[[list[str]], bool]) -> list[str]:
        deadline = time.monotonic() + 30
        while not wanted(self.lines):
            assert time.monotonic() < deadline, self.lines
            assert self._process.poll() is None, self.lines
            time.sleep(0.02)
        return list(self.lines)


@contextmanager
def following(*arguments: str, state_dir: Path) -> Iterator[Following]:
    """A command that goes on until Ctrl-C, which must end it quietly."""
    env = {**os.environ, "SHOAL_STATE_DIR": str(state_dir), "NO_COLOR": "1"}
    command = [SHOAL, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    ) as process:
        try:
            yield Following(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_a_watched_table_tells_of_changes_and_deletions(running: Path):
    with following("get", "isvc", "--watch", state_dir=running) as watch:
        watch.until(lambda lines: bool(lines) and lines[0].split() == ["NAME", "URL", "READY", "AGE"])
        assert shoal("apply", "-f", "-", state_dir=running, stdin=SERVICE.format(name="seen")).code == 0
        watch.until(lambda lines: any(line.split()[0] == "seen" and "False" in line for line in lines))
        assert shoal("delete", "isvc", "seen", state_dir=running).code == 0
        watch.until(lambda lines: lines[-1] == "seen   (deleted)")


def test_watched_documents_are_separate_and_only_those_named(running: Path):
    with following("get", "cm", "-w", "-o", "name", state_dir=running) as watch:
        watch.until(lambda lines: "configmap/model-serving-config-defaults" in lines)
        assert shoal("apply", "-f", "-", state_dir=running, stdin=CONFIG.format(name="new", value="1")).code == 0
        watch.until(lambda lines: lines[-1] == "new")
    assert shoal("delete", "cm", "new", state_dir=running).code == 0


def test_logs_are_followed(running: Path):
    pod = shoal("get", "pods", "-o", "name", state_dir=running).out.split()[0].removeprefix("pod/")
    log = running / "pods" / pod / "mlserver.log"
    with following("logs", pod, "-c", "mlserver", "-f", "--tail", "1", state_dir=running) as followed:
        first = followed.until(lambda lines: len(lines) == 1)
        with log.open("a") as file:
            file.write("one more line\n")
        followed.until(lambda lines: len(lines) >= 2 and any("one more line" in line for line in lines[1:]))
        assert first[0] in log.read_text()
    with following("logs", "mesh", "-f", "--tail", "1", state_dir=running) as followed:
        followed.until(lambda lines: len(lines) == 1)
        with (running / "logs" / "mesh.log").open("a") as file:
            file.write("said by a part\n")
        followed.until(lambda lines: "said by a part" in lines[1:])


def test_the_live_view_draws_again_and_ends_by_ctrl_c(running: Path):
    ours, theirs = pty.openpty()
    env = {**os.environ, "SHOAL_STATE_DIR": str(running), "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    command = [SHOAL, "top", "--interval", "0.2"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True) as top:
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + 30
        while seen.count(b"requests/s") < 3:
            assert time.monotonic() < deadline, seen
            seen += os.read(ours, 65536)
        assert b"OCCUPANCY" in seen
        top.send_signal(signal.SIGINT)
        with suppress(OSError):  # the other end closes when the command ends
            while block := os.read(ours, 65536):
                seen += block
        assert top.wait(20) in (0, 130)
    os.close(ours)
    assert b"Traceback" not in seen


def test_a_kubeconfig_names_the_cluster(running: Path, tmp_path: Path):
    elsewhere = tmp_path / "nothing"
    there = ("--kubeconfig", str(running / "kubeconfig"))
    assert "mlserver-1.x" in shoal("get", "servingruntimes", *there, state_dir=elsewhere).out
    applied = shoal("apply", "-f", "-", *there, state_dir=elsewhere, stdin=CONFIG.format(name="far", value="1"))
    assert (applied.code, applied.out.strip()) == (0, "configmap/far created"), applied.err
    assert "far" in shoal("describe", "cm", "far", *there, state_dir=elsewhere).out
    assert "requests/s" in shoal("top", "--once", *there, state_dir=elsewhere).out
    assert shoal("delete", "cm", "far", *there, "--context", "nobody", state_dir=elsewhere).code == 1
    assert shoal("delete", "cm", "far", *there, state_dir=elsewhere).code == 0
    (tmp_path / "broken").write_text("clusters: 5")
    refused = shoal("get", "isvc", "--kubeconfig", str(tmp_path / "broken"), state_dir=elsewhere)
    said = f"error: the kubeconfig {tmp_path / 'broken'} cannot be used"
    assert (refused.code, refused.err.startswith(said)) == (1, True)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (CONFIG.format(name="form", value="1").replace("\n", "\r\n"), ["configmap/form"]),
        ("---\n---\n# nothing\n---\n" + CONFIG.format(name="form", value="1") + "---\n", ["configmap/form"]),
        ("\ufeff" + CONFIG.format(name="form", value="1"), ["configmap/form"]),
        ('{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "form"}}', ["configmap/form"]),
        (
            '{"apiVersion": "v1", "kind": "List", "items": ['
            '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "form"}},'
            '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "form-2"}}]}',
            ["configmap/form", "configmap/form-2"],
        ),
        (
            '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "form", "annotations": {"a": "größe 🐟"}}}',
            ["configmap/form"],
        ),
    ],
    ids=["crlf", "empty documents", "byte order mark", "json", "list", "unicode"],
)
def test_manifests_in_every_form(running: Path, text: str, outcome: list[str]):
    applied = shoal("apply", "-f", "-", state_dir=running, stdin=text)
    assert applied.code == 0, applied.err
    assert [line.split()[0] for line in applied.out.splitlines()] == outcome
    again = shoal("apply", "-f", "-", state_dir=running, stdin=text)
    assert {line.split()[1] for line in again.out.splitlines()} == {"unchanged"}
    assert shoal("delete", "-f", "-", state_dir=running, stdin=text).code == 0


def test_urls_and_endless_input_are_refused(tmp_path: Path):
    done = shoal("apply", "-f", "https://example.com/isvc.yaml", state_dir=tmp_path)
    assert (done.code, "not fetched from URLs" in done.err) == (1, True)
    done = shoal("apply", "-f", "-", state_dir=tmp_path, stdin="#" * (16 * 1024 * 1024 + 1))
    assert (done.code, "larger than 16 MiB" in done.err) == (1, True)


def test_up_says_that_pods_do_not_get_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd):
    monkeypatch.setattr("shoal.cli.cluster.starting._PODS_SECONDS", 0.3)
    settings = ClusterSettings(state_dir=tmp_path)
    parts = {name: PartReport(state=PartState.READY) for name in ("apiserver", "mesh", "gateway")}
    parts["pods"] = PartReport(state=PartState.STARTING, message="0/2: pod a: mlserver: CrashLoopBackOff: no mlserver")
    addresses = ClusterAddresses(grpc="g", rest="r", api="a", admin="b")
    report = ClusterReport(pid=1, phase=ClusterPhase.READY, namespace="n", addresses=addresses, parts=parts)
    write_report(settings.layout.status, report)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as supervisor:
        with pytest.raises(Exception, match=r"pods are not ready after 0\.3 s .*no mlserver") as refused:
            _wait_until_ready(settings, supervisor, tmp_path / "log", 0)
        supervisor.kill()
    assert refused.value.code == 3
    assert "pods 0/2: pod a: mlserver: CrashLoopBackOff" in capfd.readouterr().err.replace("\n", " ")
