"""A package on its way: built, published, declared by the predictor it prints, served, compared with its samples."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import joblib
import pytest
import yaml

from e2e_models import samples
from e2e_support import Cluster
from shoal.package.compare import compare
from shoal.package.package import published
from shoal.package.stores import LocalStore

pytestmark = pytest.mark.server
ISVC = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: packed
  annotations:
    serving.kserve.io/deploymentMode: ModelMesh
spec:
"""


@pytest.fixture
def built(cluster: Cluster, svm: Path, tmp_path: Path) -> Path:
    rows = samples(3)
    answers = joblib.load(svm).predict(rows)
    pairs = [
        {
            "request": {"inputs": [tensor("predict", "FP32", [1, 64], row.tolist())]},
            "response": {"outputs": [tensor("predict", "INT64", [1, 1], [int(answer)])]},
        }
        for row, answer in zip(rows, answers, strict=True)
    ]
    (tmp_path / "samples.json").write_text(json.dumps(pairs))
    package = tmp_path / "package"
    cluster.must("package", "build", str(svm), str(package), "--samples", str(tmp_path / "samples.json"))
    return package


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def infer(cluster: Cluster, body: dict) -> dict:
    request = urllib.request.Request(f"{cluster.rest}/v2/models/packed/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_published_package_is_served_and_answers_as_it_says(cluster: Cluster, built: Path):
    done = json.loads(cluster.must("package", "publish", str(built), "-m", "packed", "-o", "json"))
    assert done["created"]
    place = done["uri"].removesuffix("/model")
    assert "signed by" in cluster.must("package", "verify", place)
    cluster.must("apply", "-f", "-", stdin=ISVC + indented({"predictor": done["predictor"]}))
    cluster.must("wait", "isvc", "packed", "--for", "Loaded", "--timeout", "90s")
    package = published(LocalStore(cluster.root / "pvcs" / "packages"), "packed", done["digest"])
    for sample in package.samples().samples:
        found = compare(sample.expected(), infer(cluster, sample.body()))
        assert found.agrees, str(found)
        assert found.compared == 1
    again = json.loads(cluster.must("package", "publish", str(built), "-m", "packed", "-o", "json"))
    assert not again["created"]
    assert again["predictor"] == done["predictor"]


def test_the_cluster_trusts_its_own_key_and_those_that_users_add(cluster: Cluster):
    own = (cluster.root / "keys" / "signing.pub").read_text()
    assert cluster.object("configmap", "shoal-trusted-keys")["data"]["shoal-up"] == own
    assert (cluster.root / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600


def indented(document: dict) -> str:
    return "".join(f"  {line}\n" for line in yaml.safe_dump(document).splitlines())
