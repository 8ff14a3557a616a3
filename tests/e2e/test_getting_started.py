"""The published getting-started guide, from the claim to the answer, word by word with real kubectl and curl."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from needs import need
from support.e2e import DATA, Cluster
from waiting import eventually

pytestmark = pytest.mark.server
GUIDE = DATA / "getting-started"


def bash(cluster: Cluster, script: str) -> str:
    done = cluster.run("bash", "-e", "-c", script)
    assert done.code == 0, done.out + done.err
    return done.out


def table(text: str) -> list[dict[str, str]]:
    """Rows of what kubectl prints, by column; columns begin where their titles do."""
    head, *lines = text.splitlines()
    found = list(re.finditer(r"\S+( \S+)*", head))
    titles, starts = [title[0] for title in found], [title.start() for title in found]
    ends = [*starts[1:], None]
    return [
        {title: line[start:end].strip() for title, start, end in zip(titles, starts, ends, strict=True)}
        for line in lines
    ]


@pytest.fixture(scope="module")
def guide(cluster: Cluster, svm: Path) -> Cluster:
    """The guide up to "Upload the model file"; the file gets into the claim's directory."""
    need("kubectl", "curl")
    assert bash(cluster, (GUIDE / "create-pvc.sh").read_text()) == "persistentvolumeclaim/my-models-pvc created\n"
    eventually(lambda: (cluster.root / "pvcs" / "my-models-pvc").is_dir(), "the claim's directory")
    shutil.copy(svm, cluster.root / "pvcs" / "my-models-pvc")
    return cluster


def test_the_claim_is_bound(guide: Cluster):
    (row,) = [row for row in table(bash(guide, "kubectl get pvc -n modelmesh-serving")) if row["NAME"][:2] == "my"]
    assert row["NAME"] == "my-models-pvc"
    assert row["STATUS"] == "Bound"
    assert (row["CAPACITY"], row["STORAGECLASS"]) == ("1Gi", "alibabacloud-cnfs-nas")


def test_the_runtimes_are_listed(guide: Cluster):
    text = bash(guide, "kubectl get servingruntimes -n modelmesh-serving")
    assert text.splitlines()[0].split() == ["NAME", "DISABLED", "MODELTYPE", "CONTAINERS", "READY", "REASON", "AGE"]
    row = next(row for row in table(text) if row["NAME"] == "mlserver-1.x")
    assert (row["DISABLED"], row["MODELTYPE"], row["CONTAINERS"]) == ("", "sklearn", "mlserver")


def test_create_the_inferenceservice_and_run_an_inference_request(guide: Cluster):
    made = bash(guide, (GUIDE / "create-isvc.sh").read_text())
    assert made == "inferenceservice.serving.kserve.io/sklearn-mnist created\n"

    def listed() -> dict[str, str] | None:
        rows = table(bash(guide, "kubectl get isvc -n modelmesh-serving"))
        return next((row for row in rows if row["NAME"] == "sklearn-mnist" and row["READY"] == "True"), None)

    row = eventually(listed, "READY True")
    assert list(row) == ["NAME", "URL", "READY", "AGE"]
    assert row["URL"] == f"grpc://modelmesh-serving.modelmesh-serving:{guide.grpc_port}"
    script = (GUIDE / "infer.sh").read_text().replace("<IP-address-of-the-ingress-gateway>", "127.0.0.1")
    # Port 8008 unless another program of this machine holds it.
    answer = bash(guide, script.replace(":8008/", f":{guide.rest_port}/"))
    assert json.loads(answer) == json.loads((GUIDE / "answer.json").read_text())


def test_its_revision_is_the_guides(guide: Cluster):
    status = guide.status("sklearn-mnist")
    assert status["modelRevisionName"] == "sklearn-mnist__isvc-3c10c62d34"
    assert status["servingRuntimeName"] == "mlserver-1.x"
