"""The verbs against a whole embedded cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from support.cli import CONFIG, SERVICE, shoal

pytestmark = pytest.mark.server


def test_status_and_kubeconfig(running: Path):
    status = shoal("status", state_dir=running)
    assert status.code == 0, status.err
    lines = {line.split()[0]: line.split()[1] for line in status.out.splitlines()[1:5]}
    assert lines == {"apiserver": "Ready", "mesh": "Ready", "gateway": "Ready", "pods": "Ready"}
    document = yaml.safe_load(shoal("kubeconfig", state_dir=running).out)
    assert document["kind"] == "Config"


def test_a_second_up_names_the_first(running: Path):
    pid = (running / "lock").read_text().strip()
    done = shoal("up", "--detach", state_dir=running)
    assert done.code == 1
    assert f"Shoal already runs on {running} as pid {pid}; see `shoal status`, stop it with `shoal down`" in done.err


def test_the_built_in_runtime_is_listed(running: Path):
    lines = shoal("get", "servingruntimes", state_dir=running).out.splitlines()
    assert lines[0].split() == ["NAME", "DISABLED", "MODELTYPE", "CONTAINERS", "READY", "REASON", "AGE"]
    assert lines[1].split()[:3] == ["mlserver-1.x", "sklearn", "mlserver"]


def test_apply_tells_created_unchanged_configured(running: Path):
    for value, outcome in (("one", "created"), ("one", "unchanged"), ("two", "configured")):
        done = shoal("apply", "-f", "-", state_dir=running, stdin=CONFIG.format(name="told", value=value))
        assert (done.code, done.out.strip()) == (0, f"configmap/told {outcome}"), done.err
    document = json.loads(shoal("get", "cm", "told", "-o", "json", state_dir=running).out)
    assert document["data"] == {"key": "two"}
    assert shoal("delete", "cm", "told", state_dir=running).out.strip() == "configmap/told deleted"
    again = shoal("delete", "cm", "told", state_dir=running)
    assert (again.code, "configmap/told not found" in again.err) == (1, True)
    assert shoal("delete", "cm", "told", "--ignore-not-found", state_dir=running).code == 0


def test_a_directory_of_manifests_and_one_that_is_refused(running: Path, tmp_path: Path):
    (tmp_path / "a.yaml").write_text(CONFIG.format(name="a", value="1") + "---\n" + CONFIG.format(name="b", value="2"))
    (tmp_path / "bad.yml").write_text(SERVICE.format(name="bad").replace("modelFormat", "modelFromat"))
    (tmp_path / "ignored.txt").write_text("not a manifest")
    done = shoal("apply", "-f", str(tmp_path), state_dir=running)
    assert done.code == 1
    assert done.out.splitlines() == ["configmap/a created", "configmap/b created"]
    assert "bad.yml: InferenceService bad" in done.err
    assert "modelFromat" in done.err
    (tmp_path / "bad.yml").unlink()
    assert shoal("delete", "-f", str(tmp_path), state_dir=running).code == 0


def test_apply_shows_the_apis_warnings(running: Path):
    document = yaml.safe_load(SERVICE.format(name="warned"))
    document["spec"]["explainer"] = {}
    done = shoal("apply", "-f", "-", state_dir=running, stdin=yaml.safe_dump(document))
    assert (done.code, done.out) == (0, "inferenceservice.serving.kserve.io/warned created\n")
    assert done.err == "warning: spec.explainer: has no effect in ModelMesh mode\n"
    assert shoal("delete", "isvc", "warned", state_dir=running).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get", "isvc", "absent"], "inferenceservices.serving.kserve.io absent not found"),
        (["get", "things"], "no kind 'things'"),
        (["describe", "isvc", "absent"], "absent not found"),
        (["logs", "absent"], "no pod 'absent'"),
        (["logs", "isvc/absent"], "no isvc 'absent'"),
        (["why", "absent"], "error: no model or InferenceService absent"),
    ],
)
def test_what_does_not_exist_is_named(running: Path, arguments: list[str], message: str):
    done = shoal(*arguments, state_dir=running)
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_unplaceable_service_never_gets_loaded_and_says_why(running: Path):
    applied = shoal("apply", "-f", "-", state_dir=running, stdin=SERVICE.format(name="nobody"))
    assert applied.code == 0, applied.err
    waited = shoal("wait", "isvc", "nobody", "--for", "Loaded", "--timeout", "3s", state_dir=running)
    assert waited.code == 3
    assert "is not Loaded after 3s" in waited.err
    assert "no-such-format" in waited.err
    assert "nobody" in shoal("get", "isvc", state_dir=running).out
    described = shoal("describe", "isvc", "nobody", state_dir=running).out
    assert "Events:" in described
    assert "no-such-format" in described
    assert shoal("delete", "isvc", "nobody", state_dir=running).code == 0
    assert shoal("wait", "isvc", "nobody", "--for", "Delete", state_dir=running).code == 0


def test_volumes(running: Path, tmp_path: Path):
    (tmp_path / "models" / "deep").mkdir(parents=True)
    (tmp_path / "models" / "deep" / "model").write_text("weights")
    made = shoal("pvc", "create", "volume", "--from", str(tmp_path / "models"), state_dir=running)
    assert made.code == 0, made.err
    assert (running / "pvcs" / "volume" / "deep" / "model").read_text() == "weights"
    assert shoal("wait", "pvc", "volume", state_dir=running).code == 0
    assert shoal("get", "pvc", "volume", state_dir=running).out.splitlines()[1].split()[:2] == ["volume", "Bound"]
    refused = shoal("pvc", "create", "volume", "--from", str(tmp_path / "models" / "deep" / "model"), state_dir=running)
    assert (refused.code, "--replace" in refused.err) == (1, True)
    file = str(tmp_path / "models" / "deep" / "model")
    assert shoal("pvc", "create", "volume", "--from", file, "--replace", state_dir=running).code == 0
    assert [path.name for path in (running / "pvcs" / "volume").iterdir()] == ["model"]
    listed = shoal("pvc", "list", state_dir=running).out.splitlines()[1:]
    assert ["volume", "Bound", "1"] in [line.split()[:3] for line in listed]


def test_the_mesh_is_seen(running: Path):
    top = shoal("top", "--once", state_dir=running)
    assert top.code == 0, top.err
    assert "requests/s" in top.out
    copies = json.loads(shoal("get", "copies", "-o", "json", state_dir=running).out)["copies"]
    table = shoal("get", "copies", state_dir=running).out
    assert all(copy["revision"] in table and copy["pod"] in table for copy in copies)


def test_logs_of_the_parts(running: Path):
    for part in ("mesh", "apiserver", "supervisor"):
        assert shoal("logs", part, "--tail", "1", state_dir=running).code == 0


def test_secrets_are_not_shown_by_describe(running: Path):
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: hidden}\nstringData: {password: hunter2}\n"
    assert shoal("apply", "-f", "-", state_dir=running, stdin=secret).code == 0
    text = shoal("describe", "secret", "hidden", state_dir=running).out
    assert "password" in text
    assert "hunter2" not in text
    assert "aHVudGVyMg" not in text
