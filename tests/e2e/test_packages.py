"""A package on its way: built, published, declared by the predictor it prints, served, compared with its samples."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import joblib
import pytest
import yaml

from e2e_models import samples
from shoal.package.compare import compare
from shoal.package.package import published
from shoal.package.stores import LocalStore
from support.e2e import Cluster
from support.runtime_storage import s3_server

pytestmark = pytest.mark.server
ISVC = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
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


def declare(cluster: Cluster, name: str, predictor: dict) -> None:
    cluster.must("apply", "-f", "-", stdin=ISVC.format(name=name) + indented({"predictor": predictor}))
    cluster.must("wait", "isvc", name, "--for", "Loaded", "--timeout", "90s")


def infer(cluster: Cluster, name: str, body: dict) -> dict:
    request = urllib.request.Request(f"{cluster.rest}/v2/models/{name}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_published_package_is_served_and_answers_as_it_says(cluster: Cluster, built: Path):
    done = json.loads(cluster.must("package", "publish", str(built), "-m", "packed", "-o", "json"))
    assert done["created"]
    place = done["uri"].removesuffix("/model")
    assert "signed by" in cluster.must("package", "verify", place)
    declare(cluster, "packed", done["predictor"])
    package = published(LocalStore(cluster.root / "pvcs" / "packages"), "packed", done["digest"])
    for sample in package.samples().samples:
        found = compare(sample.expected(), infer(cluster, "packed", sample.body()))
        assert found.agrees, str(found)
        assert found.compared == 1
    again = json.loads(cluster.must("package", "publish", str(built), "-m", "packed", "-o", "json"))
    assert not again["created"]
    assert again["predictor"] == done["predictor"]


def test_a_package_in_a_bucket_is_served_by_the_entry_it_names(cluster: Cluster, built: Path, tmp_path: Path):
    (tmp_path / "s3" / "models").mkdir(parents=True)
    with s3_server(tmp_path / "s3") as server:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage-config"}}
        entry = {"packages-bucket": json.dumps(server.entry())}
        cluster.must("apply", "-f", "-", stdin=yaml.safe_dump(secret | {"stringData": entry}))
        to = ("--to", "s3://models/team", "--storage-key", "packages-bucket")
        done = json.loads(cluster.must("package", "publish", str(built), "-m", "bucketed", *to, "-o", "json"))
        assert done["predictor"]["model"]["storage"]["key"] == "packages-bucket"
        assert "signed by" in cluster.must("package", "verify", done["uri"], "--storage-key", "packages-bucket")
        declare(cluster, "bucketed", done["predictor"])
        for sample in json.loads((tmp_path / "samples.json").read_text()):
            found = compare(sample["response"], infer(cluster, "bucketed", sample["request"]))
            assert found.agrees, str(found)
        cluster.must("delete", "isvc", "bucketed")


def test_the_cluster_trusts_its_own_key_and_those_that_users_add(cluster: Cluster):
    own = (cluster.root / "keys" / "signing.pub").read_text()
    assert cluster.object("configmap", "shoal-trusted-keys")["data"]["shoal-up"] == own
    assert (cluster.root / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600


def indented(document: dict) -> str:
    return "".join(f"  {line}\n" for line in yaml.safe_dump(document).splitlines())
