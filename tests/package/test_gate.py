from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shoal.package import gate
from shoal.package.errors import StoreUnavailable
from shoal.package.evidence import add_evidence, sign
from shoal.package.gate import Gate
from shoal.package.keys import TrustedKeys
from shoal.package.predictor import predictor_for
from shoal.package.publish import publish
from shoal.package.stores import LocalStore
from shoal.resources.inferenceservice import parse
from shoal.resources.source import ModelSource
from shoal.resources.storage import parse_entry
from support.package import attested, flip, make_package, statement, trust


@pytest.fixture
def claims(tmp_path):
    (tmp_path / "pvcs" / "models").mkdir(parents=True)
    return tmp_path / "pvcs"


@pytest.fixture
def on_claim(claims):
    return LocalStore(claims / "models", claim="models", prefix="team")


def source_of(done, **changes) -> ModelSource:
    """As the controller gets it: by way of the manifest."""
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "digits", "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}},
        "spec": {"predictor": predictor_for(done)},
    }
    return dataclasses.replace(parse(manifest)[1], **changes)


@pytest.fixture
def ask(claims, trusted):
    judge = Gate()

    def ask(source, *requires, trust=trusted, entries=None):
        return judge.missing(source, requires, trust, entries=entries or {}, claims=claims)

    return ask


def test_nothing_is_asked_of_models_that_need_no_evidence(ask):
    assert ask(ModelSource(format="sklearn", path="anything")) is None


def test_a_package_with_all_evidence_passes(ask, on_claim, directory, package, key):
    attested(package, key, "scan")
    source = source_of(publish(directory, on_claim, "digits", key=key))
    assert ask(source, "scan", "signature") is None


def test_what_is_missing_is_named_with_who_and_how(ask, on_claim, directory, package, key):
    attested(package, key, "scan")
    done = publish(directory, on_claim, "digits", key=key)
    said = ask(source_of(done), "scan", "approval", "golden-replay")
    place = f"pvc://models/team/digits/{done.digest[:12]}"
    assert f"shoal package attest {place} approval" in said
    assert f"shoal package attest {place} golden-replay" in said
    assert "ConfigMap shoal-trusted-keys (tester)" in said
    assert " scan (" not in said
    add_evidence(on_claim, "digits", done.digest, sign(statement(package, "approval"), key))
    add_evidence(on_claim, "digits", done.digest, sign(statement(package, "golden-replay"), key))
    assert ask(source_of(done), "scan", "approval", "golden-replay") is None


def test_evidence_that_did_not_pass_counts_as_missing_and_says_why(ask, on_claim, directory, package, key):
    attested(package, key, "metrics", passed=False, summary="accuracy 0.61 < 0.9")
    said = ask(source_of(publish(directory, on_claim, "digits", key=key)), "metrics")
    assert "metrics (did not pass: accuracy 0.61 < 0.9" in said


def test_evidence_by_a_stranger_is_not_believed(ask, on_claim, directory, package, key, stranger):
    attested(package, stranger, "approval")
    source = source_of(publish(directory, on_claim, "digits", key=key))
    keyid = sign(statement(package), stranger).keyid
    assert f"approval (signed by key {keyid[:12]}, which is not trusted" in ask(source, "approval")
    assert ask(source, "approval", trust=trust(stranger)) is None


def test_a_signature_by_a_stranger_is_none(ask, on_claim, directory, stranger):
    source = source_of(publish(directory, on_claim, "digits", key=stranger))
    assert "model.sig is by key" in ask(source, "signature")


def test_an_unsigned_model_is_told_how_to_be_signed(ask, on_claim, directory):
    said = ask(source_of(publish(directory, on_claim, "digits")), "signature")
    assert "signature (the model is not signed; add it by: shoal package attest" in said


def test_without_any_trusted_key_nothing_passes(ask, on_claim, directory, package, key):
    attested(package, key)
    said = ask(source_of(publish(directory, on_claim, "digits", key=key)), "approval", trust=TrustedKeys({}))
    assert "No key is trusted in this namespace: add public keys to ConfigMap shoal-trusted-keys" in said


def test_evidence_for_one_model_does_not_count_for_another(ask, on_claim, directory, package, key, claims):
    attested(package, key, "champion", model="digits")
    done = publish(directory, on_claim, "digits", key=key)
    folder = claims / "models" / "team"
    (folder / "digits").rename(folder / "letters")
    moved = source_of(done, path=done.address.path.replace("digits", "letters"))
    assert "is about model 'digits'" in ask(moved, "champion")


def test_evidence_about_another_package_does_not_count(ask, on_claim, directory, package, key, claims, tmp_path):
    other = make_package(tmp_path / "other", {"model.joblib": pickle.dumps({"weights": [4]})})
    attested(other, key)
    done = publish(directory, on_claim, "digits", key=key)
    theirs = tmp_path / "other" / "package" / "evidence" / "approval.json"
    evidence = claims / "models" / "team" / done.folder / "evidence"
    evidence.mkdir()
    shutil.copy(theirs, evidence)
    assert f"approval (is about package {other.digest[:12]}" in ask(source_of(done), "approval")


def test_another_package_at_the_path_of_one_that_was_trusted_does_not_pass(
    ask, on_claim, directory, package, key, claims, tmp_path
):
    other = make_package(tmp_path / "other", {"model.joblib": pickle.dumps({"weights": [4]})})
    for each in (package, other):
        attested(each, key)
    done = publish(directory, on_claim, "digits", key=key)
    assert ask(source_of(done), "approval", "signature") is None
    theirs = publish(tmp_path / "other" / "package", on_claim, "digits", key=key)
    team = claims / "models" / "team"
    shutil.rmtree(team / done.folder)
    (team / theirs.folder).rename(team / done.folder)
    assert f"holds package {other.digest[:12]}" in ask(source_of(done), "approval", "signature")


def test_a_payload_that_was_changed_does_not_pass(ask, on_claim, directory, package, key, claims):
    attested(package, key)
    done = publish(directory, on_claim, "digits", key=key)
    source = source_of(done)
    assert ask(source, "approval") is None
    file = claims / "models" / done.address.path / "model.joblib"
    data = file.read_bytes()
    file.write_bytes(flip(data, 3, 1))
    assert "model.joblib was changed" in ask(source, "approval")
    file.write_bytes(data)
    assert ask(source, "approval") is None
    (file.parent / "more.joblib").write_bytes(b"x")
    assert "more.joblib is not of this package" in ask(source, "approval")


def test_what_did_not_change_is_not_hashed_again(ask, on_claim, directory, package, key, monkeypatch):
    attested(package, key)
    source = source_of(publish(directory, on_claim, "digits", key=key))
    assert ask(source, "approval") is None
    monkeypatch.setattr("shoal.package.gate.payload_problems", lambda *_: pytest.fail("hashed again"))
    assert ask(source, "approval") is None


@pytest.mark.parametrize(
    "path", ["", "model.joblib", "digits/model", "digits/0a1b2c3d4e5f", "digits/0a1b2c3d4e5g/model"]
)
def test_a_path_that_is_no_package_s_does_not_pass_and_is_named(ask, path):
    source = ModelSource(format="sklearn", path=path, parameters={"type": "pvc", "name": "models"})
    said = ask(source, "scan")
    assert said.startswith("evidence is required (scan) and cannot be found: storage.path")
    assert f"{path!r} is not a published package (MODEL/DIGEST/model)" in said


def test_a_path_that_leaves_its_claim_does_not_pass(ask):
    source = ModelSource(format="sklearn", path="../x/0a1b2c3d4e5f/model", parameters={"type": "pvc", "name": "models"})
    assert ask(source, "scan").startswith("evidence is required (scan) and cannot be found")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"parameters": {"type": "http", "url": "http://x"}}, "read from S3 and from claims"),
        ({"storage_key": "nowhere"}, "no valid entry 'nowhere'"),
        ({"parameters": {"type": "pvc"}}, "does not name a claim"),
        ({"parameters": {"type": "pvc", "name": "../etc"}}, "does not name a claim"),
        ({"parameters": {"type": "pvc", "name": "a/b"}}, "does not name a claim"),
        ({"storage_key": "bucket", "parameters": {"endpoint_url": "http://evil"}}, "may not differ"),
        ({"storage_key": "no-bucket"}, "lacks bucket"),
    ],
)
def test_storages_that_packages_are_not_read_from_do_not_pass(ask, source, problem):
    entries = {
        "bucket": parse_entry("bucket", '{"type": "s3", "endpoint_url": "http://127.0.0.1:1", "bucket": "b"}'),
        "no-bucket": parse_entry("no-bucket", '{"type": "s3", "endpoint_url": "http://127.0.0.1:1"}'),
    }
    asked = ModelSource(format="sklearn", path="m/0a1b2c3d4e5f/model", **source)
    assert problem in ask(asked, "scan", entries=entries)


def test_a_store_that_does_not_answer_is_no_answer(ask):
    entries = {"down": parse_entry("down", '{"type": "s3", "endpoint_url": "http://127.0.0.1:1", "bucket": "models"}')}
    source = ModelSource(format="sklearn", path="m/0a1b2c3d4e5f/model", storage_key="down")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        ask(source, "scan", entries=entries)


@pytest.mark.server
def test_packages_in_a_bucket_are_found_by_the_entry_of_their_predictor(ask, bucket, directory, package, key, s3):
    attested(package, key, "scan")
    done = publish(directory, bucket, "digits", key=key)
    entries = {"tests": parse_entry("tests", json.dumps(s3.entry()))}
    assert ask(source_of(done), "scan", "signature", entries=entries) is None
    assert "shoal package attest s3://models/" in ask(source_of(done), "approval", entries=entries)
    bucket.write(f"digits/{done.digest[:12]}/model/model.joblib", b"something else")
    assert "model.joblib" in ask(source_of(done), "scan", entries=entries)


# --- which store is asked, and how ---


@pytest.fixture
def asked():
    """What a store of S3 that has nothing was asked: (path, `Authorization`); and its address."""
    seen: list[tuple[str, str]] = []

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization", "")))
            body = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
            self.send_response(404)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield seen, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def s3_entry(address: str, **more: str):
    keys = {"access_key_id": "reader", "secret_access_key": "secret", "region": "eu-north-1"}
    return parse_entry("store", json.dumps({"type": "s3", "endpoint_url": address, **keys, **more}))


@pytest.mark.parametrize(
    ("entry", "given", "path", "region"),
    [
        ({"bucket": "of-entry", "default_bucket": "usual"}, {}, "/of-entry/", "eu-north-1"),
        ({"default_bucket": "usual"}, {"type": "s3"}, "/usual/", "eu-north-1"),
        ({"bucket": "of-entry"}, {"bucket": "of-model", "region": "us-west-2"}, "/of-model/", "us-west-2"),
    ],
    ids=["entry", "usual", "model"],
)
def test_a_bucket_is_asked_with_the_keys_and_the_region_it_is_declared_with(ask, asked, entry, given, path, region):
    seen, address = asked
    source = ModelSource(format="sklearn", path="m/0a1b2c3d4e5f/model", storage_key="store", parameters=given)
    said = ask(source, "scan", entries={"store": s3_entry(address, **entry)})
    assert said.startswith("evidence is required (scan) and cannot be found: ")
    assert seen
    for at, authorization in seen:
        assert at.startswith(path)
        assert "Credential=reader/" in authorization
        assert f"/{region}/s3/" in authorization


@pytest.mark.parametrize(("kind", "meant"), [("s3", "default_s3"), (None, "default")])
def test_without_a_key_the_entry_of_its_kind_is_meant(ask, asked, kind, meant):
    seen, address = asked
    source = ModelSource(format="sklearn", path="m/0a1b2c3d4e5f/model", parameters={"type": kind} if kind else {})
    ask(source, "scan", entries={meant: s3_entry(address, bucket="models")})
    assert seen
    said = ask(source, "scan", entries={"other": s3_entry(address, bucket="models")})
    assert f"storage '{meant}' is neither, or has no entry" in said


def test_an_address_that_is_that_of_the_entry_may_be_said_again(ask, asked):
    seen, address = asked
    given = {"endpoint_url": address}
    source = ModelSource(format="sklearn", path="m/0a1b2c3d4e5f/model", storage_key="store", parameters=given)
    assert "may not differ" not in ask(source, "scan", entries={"store": s3_entry(address, bucket="models")})
    assert seen


def test_an_entry_without_an_address_is_named(ask):
    entries = {"store": parse_entry("store", '{"type": "s3", "bucket": "b"}')}
    source = ModelSource(format="sklearn", path="m/0a1b2c3d4e5f/model", storage_key="store")
    assert "storage-config entry 'store' lacks endpoint_url" in ask(source, "scan", entries=entries)


def test_a_claim_may_be_that_of_an_entry(ask, on_claim, directory, package, key):
    attested(package, key, "scan")
    done = publish(directory, on_claim, "digits", key=key)
    entries = {"claim": parse_entry("claim", '{"type": "pvc", "name": "models"}')}
    source = source_of(done, storage_key="claim", parameters={})
    assert ask(source, "scan", entries=entries) is None
    elsewhere = source_of(done, storage_key="claim", parameters={"type": "pvc", "name": "others"})
    assert "cannot be found" in ask(elsewhere, "scan", entries=entries)


def test_where_claims_cannot_be_read_models_on_them_do_not_pass(on_claim, directory, key, trusted):
    source = source_of(publish(directory, on_claim, "digits", key=key))
    said = Gate().missing(source, ["scan"], trusted, entries={}, claims=None)
    assert "packages on claims cannot be read by the mesh here; publish to S3" in said


# --- limits ---


def test_evidence_that_cannot_be_read_is_named(ask, on_claim, directory, package, key, claims):
    attested(package, key, "scan")
    done = publish(directory, on_claim, "digits", key=key)
    (claims / "models" / "team" / done.folder / "evidence" / "approval.json").write_text("{}")
    said = ask(source_of(done), "scan")
    assert "approval.json is not" in said


def test_a_package_among_too_many_files_does_not_pass(ask, on_claim, directory, package, key, claims, monkeypatch):
    attested(package, key, "scan")
    done = publish(directory, on_claim, "digits", key=key)
    folder = claims / "models" / "team" / done.folder
    monkeypatch.setattr("shoal.package.gate.MAX_FILES", 10)
    monkeypatch.setattr("shoal.package.gate.MAX_EVIDENCE", 3)
    for number in range(23 - sum(path.is_file() for path in folder.rglob("*"))):
        (folder / f"note-{number}").touch()
    assert ask(source_of(done), "scan") is None
    (folder / "one-more").touch()
    assert "there are more than 23 files" in ask(source_of(done), "scan")


def test_only_the_packages_asked_for_last_are_remembered(ask, on_claim, directory, key, package, tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.package.gate._REMEMBERED", 2)
    hashed: list[str] = []
    payload_problems = gate.payload_problems

    def counted(package, listed):
        hashed.append(package.digest)
        return payload_problems(package, listed)

    monkeypatch.setattr("shoal.package.gate.payload_problems", counted)
    sources, digests = [], []
    for number in range(3):
        made = make_package(tmp_path / f"p{number}", {"model.joblib": pickle.dumps([number])})
        attested(made, key)
        sources.append(source_of(publish(tmp_path / f"p{number}" / "package", on_claim, "digits", key=key)))
        digests.append(made.digest)
    for number in (0, 1, 2, 1, 2, 0):
        assert ask(sources[number], "approval") is None
    assert hashed == [digests[number] for number in (0, 1, 2, 0)]
