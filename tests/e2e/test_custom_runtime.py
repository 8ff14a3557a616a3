"""The published guide to custom runtimes: a class, its image, its ServingRuntime, and a model on S3 for it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_models import PIXELS, seed_form
from support.e2e import DATA, Cluster
from support.runtime_storage import S3Server, s3_server
from waiting import eventually

pytestmark = pytest.mark.server
GUIDE = DATA / "custom-runtime"
BUCKET = "modelmesh-example-models"
IMAGE = "registry.example/my-namespace/custom-mlserver:v1.0"
FILLED = {"<custom-runtime-name>": "my-model-server", "<model-format-name>": "my-model", "<your-image>": IMAGE}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory, svm: Path) -> Iterator[S3Server]:
    """An S3 server with the example's bucket."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / BUCKET / "sklearn").mkdir(parents=True)
    shutil.copy(svm, folder / BUCKET / "sklearn")
    with s3_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def guide(cluster: Cluster, storage: S3Server) -> Iterator[Cluster]:
    """The guide up to step 3, with its placeholders filled."""
    entry = json.dumps(storage.entry(bucket=BUCKET))
    patch = {"data": {"localMinIO": base64.b64encode(entry.encode()).decode()}}
    cluster.kubectl("patch", "secret", "storage-config", "--type", "merge", "-p", json.dumps(patch))
    cluster.must("runtime", "build", str(GUIDE), "--tag", IMAGE)
    manifest = (GUIDE / "serving-runtime.yaml").read_text()
    for placeholder, value in FILLED.items():
        manifest = manifest.replace(placeholder, value)
    try:
        made = cluster.kubectl("apply", "-n", "modelmesh-serving", "-f", "-", stdin=manifest)
        assert made == "servingruntime.serving.kserve.io/my-model-server created\n"
        yield cluster
    finally:
        cluster.shoal("delete", "isvc", "my-model-sample", "--ignore-not-found")
        cluster.shoal("delete", "servingruntime", "my-model-server", "--ignore-not-found")
        eventually(lambda: not any("my-model-server" in pod for pod in cluster.pod_ips()), "its pods to end")


def test_the_guide(guide: Cluster):
    text = guide.kubectl("get", "servingruntimes", "-n", "modelmesh-serving")
    assert next(line.split()[:3] for line in text.splitlines() if line.startswith("my-model-server")) == [
        "my-model-server",
        "my-model",
        "mlserver",
    ]
    made = guide.kubectl("apply", "-f", str(GUIDE / "inference-service.yaml"))
    assert made == "inferenceservice.serving.kserve.io/my-model-sample created\n"
    guide.must("wait", "isvc", "my-model-sample", "--for", "Loaded", "--timeout", "90s")
    text = guide.kubectl("get", "inferenceservice", "my-model-sample", "-n", "modelmesh-serving")
    head, row = (line.split() for line in text.splitlines())
    assert head == ["NAME", "URL", "READY", "AGE"]
    assert (row[0], row[2]) == ("my-model-sample", "True")
    assert guide.status("my-model-sample")["servingRuntimeName"] == "my-model-server"
    by_rest = json.loads(guide.must("infer", "my-model-sample", "-f", "-", stdin=seed_form(PIXELS)))
    assert by_rest["outputs"][0]["contents"]["bytesContents"] == [base64.b64encode(b"eight").decode()]
    wrong = guide.shoal("infer", "my-model-sample", "-f", "-", stdin=seed_form(PIXELS[:, :32]))
    assert wrong.code == 1
    assert "64 pixels a row" in wrong.err
    (pod,) = {copy["pod"] for copy in guide.copies("my-model-sample")}
    assert "Loaded model" in guide.kubectl("logs", "-n", "modelmesh-serving", pod, "-c", "mlserver")
