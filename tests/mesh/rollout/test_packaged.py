"""Samples from real packages: on a claim, in a real S3 server, and where there are none."""

import hashlib
import json
import struct
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from shoal.mesh.api import ModelInfo
from shoal.mesh.checks.packaged import PackagedSamples, source_of
from shoal.package.manifest import About, Content, FileRef, compose
from shoal.package.publish import publish
from shoal.package.samples import samples_of
from shoal.package.stores import LocalStore
from shoal.package.stores.s3 import open_s3
from shoal.resources.revision import model_key
from shoal.resources.source import ModelSource
from shoal.resources.storage import parse_entry
from shoal_protos import inference as oip
from support.runtime_storage import s3_server

SAMPLES = [
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[number, 0.5]]}]} for number in range(3)
]


def reference(data):
    return FileRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def build(folder, samples=SAMPLES):
    """A package as `shoal package build` makes it."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"weights")
    sampled = samples_of(samples).to_bytes() if samples else None
    if sampled:
        (folder / "samples.json").write_bytes(sampled)
    content = Content(
        format="sklearn", files={"weights": reference(b"weights")}, samples=reference(sampled) if sampled else None
    )
    manifest = compose(content, About(created=datetime.now(UTC)))
    (folder / "shoal-package.json").write_bytes(manifest.to_bytes())
    return folder


def info_of(address):
    source = ModelSource("sklearn", storage_key=address.key, path=address.path, parameters=address.parameters)
    return ModelInfo("mt:sklearn", source.path, model_key(source))


def published(tmp_path, **more):
    store = LocalStore(tmp_path / "claims" / "models", claim="models")
    return info_of(publish(build(tmp_path / "built", **more), store, "digits").address)


@pytest.fixture
def samples(tmp_path):
    return PackagedSamples(dict, tmp_path / "claims")


def decoded(messages):
    requests = [oip.ModelInferRequest.FromString(message) for message in messages]
    return [(r.inputs[0].name, list(r.inputs[0].shape), r.raw_input_contents[0]) for r in requests]


async def test_a_package_on_a_claim_gives_its_samples(tmp_path, samples):
    messages = await samples(published(tmp_path))
    assert decoded(messages) == [("x", [1, 2], struct.pack("<2f", number, 0.5)) for number in range(3)]


@pytest.mark.server
async def test_a_package_in_s3_gives_its_samples(tmp_path):
    bucket = tmp_path / "s3" / "models"
    bucket.mkdir(parents=True)
    with s3_server(tmp_path / "s3") as server:
        store = open_s3(
            server.url, "models", access_key=server.access, secret_key=server.secret, region="us-east-1", key="minio"
        )
        info = info_of(publish(build(tmp_path / "built"), store, "digits").address)
        entries = {"minio": parse_entry("minio", json.dumps(server.entry()))}
        messages = await PackagedSamples(lambda: entries, None)(info)
        assert len(decoded(messages)) == 3
    with pytest.raises(OSError):
        await PackagedSamples(lambda: entries, None)(info)


async def test_packages_and_models_without_samples_have_none(tmp_path, samples):
    assert await samples(published(tmp_path, samples=None)) == ()
    assert await samples(ModelInfo("rt:test", "models/digits.joblib")) == ()
    assert await samples(ModelInfo("rt:test", "a/0123456789ab/model", '{"storage_key": "nowhere"}')) == ()
    assert await PackagedSamples(dict, None)(published(tmp_path / "other")) == ()


async def test_samples_that_were_changed_are_not_used(tmp_path, samples):
    info = published(tmp_path)
    (path,) = tmp_path.glob("claims/models/digits/*/samples.json")
    path.write_text(path.read_text().replace("0.5", "0.6"))
    with pytest.raises(OSError, match="is not what was packed"):
        await samples(info)


@pytest.mark.parametrize("key", ["", "no JSON", "[]", '{"storage_key": 7, "storage_params": []}'])
def test_keys_of_other_clients_are_read_as_far_as_they_go(key):
    assert source_of(ModelInfo("rt:x", "p", key)) == ModelSource("", path="p")


def test_the_mesh_starts_without_the_client_of_buckets():
    code = "import sys, shoal.controller.main; sys.exit('minio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
