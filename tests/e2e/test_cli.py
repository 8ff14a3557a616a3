"""Every verb of the command as a new user meets it, on a cluster that serves a model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from e2e_models import PIXELS, seed_form, v2_form
from needs import need
from support.cli import SHOAL
from support.e2e import Cluster, service
from waiting import eventually

pytestmark = pytest.mark.server


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_get_isvc_in_all_forms(cluster: Cluster, digits: str):
    head, *lines = rows(cluster.must("get", "isvc"))
    assert head == ["NAME", "URL", "READY", "AGE"]
    assert next(line for line in lines if line[0] == digits)[2] == "True"
    (_, wide) = rows(cluster.must("get", "isvc", digits, "-o", "wide"))
    assert wide[0] == digits
    document = json.loads(cluster.must("get", "isvc", digits, "-o", "json"))
    assert document["kind"] == "InferenceService"
    same = yaml.safe_load(cluster.must("get", "isvc", digits, "-o", "yaml"))
    assert same["spec"] == document["spec"]
    by_kubectl = json.loads(cluster.kubectl("get", "isvc", digits, "-o", "json"))
    assert by_kubectl["spec"] == document["spec"]
    assert by_kubectl["metadata"]["uid"] == document["metadata"]["uid"]


def test_get_runtimes_pods_and_copies(cluster: Cluster, digits: str):
    assert rows(cluster.must("get", "servingruntimes"))[1][:3] == ["mlserver-1.x", "sklearn", "mlserver"]
    _, *pods = rows(cluster.must("get", "pods"))
    mine = [pod for pod in pods if pod[0].startswith("modelmesh-serving-mlserver-1.x-")]
    assert [pod[1:3] for pod in mine] == [["2/2", "Running"]] * 2
    head, *copies = rows(cluster.must("get", "copies", digits))
    assert head[:4] == ["REVISION", "POD", "STATE", "SIZE"]
    assert copies[0][0].startswith(f"{digits}__isvc-")
    assert copies[0][1] in {pod[0] for pod in mine}
    assert copies[0][2] == "Loaded"
    found = json.loads(cluster.must("get", "copies", digits, "-o", "json"))["copies"]
    assert found[0]["sizeBytes"] > 0
    assert yaml.safe_load(cluster.must("get", "copies", digits, "-o", "yaml"))["copies"][0]["pod"] == found[0]["pod"]


def test_get_watch_shows_changes(cluster: Cluster, digits: str):
    env = {**os.environ, "SHOAL_STATE_DIR": str(cluster.root), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    out = cluster.root / "watch"
    with out.open("w") as file:
        watching = subprocess.Popen([SHOAL, "get", "isvc", "--watch"], stdout=file, env=env)
        try:
            eventually(lambda: digits in out.read_text(), "the list")
            cluster.must("apply", "-f", "-", stdin=service("watched", "nothing"))
            eventually(lambda: "watched" in out.read_text(), "the new one")
        finally:
            cluster.must("delete", "isvc", "watched")
            watching.terminate()
            watching.wait(10)


def test_describe_tells_spec_status_copies_and_events(cluster: Cluster, digits: str):
    text = cluster.must("describe", "isvc", digits)
    for word in (digits, "sklearn", "Ready", "UpToDate", "Events:", f"{digits}__isvc-"):
        assert word in text, word
    assert "mlserver" in cluster.must("describe", "servingruntime", "mlserver-1.x")


def test_an_isvcs_whole_life(cluster: Cluster, digits: str, svm: Path, tmp_path: Path):
    file = tmp_path / "isvc.yaml"
    file.write_text(service("life", svm.name, claim="digits"))
    assert cluster.must("apply", "-f", str(file)) == "inferenceservice.serving.kserve.io/life created\n"
    assert "life is Loaded" in cluster.must("wait", "isvc", "life", "--for", "Loaded", "--timeout", "60s")
    assert cluster.must("apply", "-f", str(file)) == "inferenceservice.serving.kserve.io/life unchanged\n"
    request = tmp_path / "request.json"
    request.write_text(seed_form(PIXELS))
    answer = json.loads(cluster.must("infer", "life", "-f", str(request)))
    assert answer["outputs"][0]["contents"]["int64Contents"] == ["8"]
    assert json.loads(cluster.must("infer", "life", "-f", "-", stdin=v2_form(PIXELS)))["outputs"][0]["data"] in (
        [8],
        [[8]],
    )
    by_grpc = json.loads(cluster.must("infer", "life", "-f", str(request), "--grpc"))
    assert by_grpc["modelName"] == answer["modelName"]
    assert "deleted" in cluster.must("delete", "isvc", "life")
    assert cluster.must("wait", "isvc", "life", "--for", "Delete", "--timeout", "30s")
    gone = cluster.shoal("infer", "life", "-f", str(request))
    assert gone.code == 1
    assert "404" in gone.err
    assert "life" in gone.err


def test_waiting_for_a_model_that_nobody_uses_loads_it(cluster: Cluster, digits: str, svm: Path):
    cluster.deploy("idle", svm.name, claim="digits")
    try:
        assert httpx.post(f"{cluster.rest}/v2/repository/models/idle/unload", timeout=10).status_code == 200
        standby = {"activeModelState": "Standby", "targetModelState": ""}
        eventually(lambda: cluster.status("idle")["modelStatus"]["states"] == standby, "the model to be unloaded")
        done = cluster.shoal("wait", "isvc", "idle", "--for", "Loaded", "--timeout", "30s")
        assert done.code == 0, done.err
        assert "idle is Loaded" in done.out
    finally:
        cluster.must("delete", "isvc", "idle")


def test_wait_tells_why_and_how_long(cluster: Cluster, digits: str):
    cluster.must("apply", "-f", "-", stdin=service("never", "no-such-file", claim="digits"))
    try:
        started = time.monotonic()
        done = cluster.shoal("wait", "isvc", "never", "--for", "Loaded", "--timeout", "2s")
        assert done.code == 3
        assert time.monotonic() - started < 15
        assert "isvc never is not Loaded after 2s" in done.err or "never is not Loaded after 2s" in done.err
        described = eventually(
            lambda: "no-such-file" in cluster.must("describe", "isvc", "never"), "the reason", seconds=30
        )
        assert described
    finally:
        cluster.must("delete", "isvc", "never")


def test_wait_waits_for_the_generation_last_applied(cluster: Cluster, digits: str, svm: Path):
    cluster.must("apply", "-f", "-", stdin=service("moving", svm.name, claim="digits"))
    cluster.must("wait", "isvc", "moving", "--for", "Loaded")
    first = cluster.status("moving")["modelRevisionName"]
    folder = cluster.root / "pvcs" / "digits"
    (folder / "second.joblib").write_bytes(svm.read_bytes())
    cluster.must("apply", "-f", "-", stdin=service("moving", "second.joblib", claim="digits"))
    cluster.must("wait", "isvc", "moving", "--for", "Loaded")
    second = cluster.status("moving")["modelRevisionName"]
    assert second != first
    answer = json.loads(cluster.must("infer", "moving", "-f", "-", stdin=seed_form(PIXELS)))
    assert answer["modelName"] == second
    cluster.must("delete", "isvc", "moving")


def test_logs(cluster: Cluster, digits: str):
    pod = json.loads(cluster.must("get", "copies", digits, "-o", "json"))["copies"][0]["pod"]
    for what in ((pod, "-c", "mlserver"), (pod, "-c", "mlserver-adapter"), (f"isvc/{digits}", "-c", "mlserver")):
        assert cluster.must("logs", *what, "--tail", "5"), what
    assert cluster.kubectl("logs", pod, "-c", "mlserver", "--tail", "5")
    for part in ("mesh", "apiserver", "supervisor"):
        assert cluster.shoal("logs", part, "--tail", "2").code == 0


def test_top_and_why(cluster: Cluster, digits: str):
    text = cluster.must("top", "--once")
    assert "requests/s" in text
    document = json.loads(cluster.must("top", "--json"))
    assert len([pod for pod in document["pods"] if pod["runtime"] == "mlserver-1.x"]) == 2
    for name in (digits, cluster.status(digits)["modelRevisionName"]):
        assert digits in cluster.must("why", name)


def test_kubeconfig_is_what_kubectl_needs(cluster: Cluster, tmp_path: Path):
    need("kubectl")
    file = tmp_path / "config"
    file.write_text(cluster.must("kubeconfig"))
    file.chmod(0o600)
    done = subprocess.run(
        ["kubectl", "--kubeconfig", str(file), "get", "isvc"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_volumes(cluster: Cluster, svm: Path):
    assert "volume-a holds" in cluster.must("pvc", "create", "volume-a", "--from", str(svm.parent))
    assert (cluster.root / "pvcs" / "volume-a" / svm.name).read_bytes() == svm.read_bytes()
    again = cluster.shoal("pvc", "create", "volume-a", "--from", str(svm))
    assert (again.code, "--replace" in again.err) == (1, True)
    assert re.search(r"volume-a\s+Bound\s+1\s", cluster.must("pvc", "list"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("get", "isvc", "nobody"), 1, "nobody not found"),
        (("get", "things"), 1, "things"),
        (("get", "isvc", "-o", "xml"), 2, "xml"),
        (("describe", "isvc", "nobody"), 1, "nobody not found"),
        (("delete", "isvc", "nobody"), 1, "nobody not found"),
        (("logs", "nobody"), 1, "nobody"),
        (("why", "nobody"), 1, "nobody"),
        (("wait", "isvc", "nobody", "--timeout", "1s"), 3, "does not exist"),
        (("infer", "nobody", "-f", "/dev/null"), 1, "4"),
        (("pvc", "create", "x", "--from", "/no/such"), 1, "does not exist"),
        (("apply", "-f", "/no/such"), 1, "/no/such"),
        (("up", "--detach"), 1, "already runs"),
    ],
)
def test_errors_are_clear(cluster: Cluster, digits: str, arguments: tuple[str, ...], code: int, message: str):
    done = cluster.shoal(*arguments)
    assert done.code == code, done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) < 15


def test_up_takes_its_flags(cluster: Cluster):
    """What the running cluster was started with is what it has."""
    report = cluster.report()
    assert report["addresses"]["grpc"] == cluster.grpc
    assert report["addresses"]["rest"] == cluster.rest
    assert "Ready" in cluster.must("status")
