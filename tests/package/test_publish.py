from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import package_victim
from shoal.package.errors import InvalidPackage, PackageNotFound, TamperedPackage
from shoal.package.manifest import compose
from shoal.package.package import find, published
from shoal.package.predictor import predictor_for
from shoal.package.publish import publish
from shoal.package.stores import LocalStore
from shoal.package.verify import verify
from support.package import Crash, CrashingStore, about, attested, make_package, trust


def test_a_published_package_is_whole_signed_and_found_again(store, directory, package, key, trusted):
    attested(package, key)
    done = publish(directory, store, "digits", key=key)
    assert done.created
    assert done.digest == package.digest
    (there,) = find(store, "digits")
    verification = verify(there, trusted)
    assert verification.sound, verification.problems
    assert verification.notes == ()
    assert (verification.signed_by, verification.sealed_by) == ("tester", "tester")
    assert verification.evidence["approval"].signer == "tester"
    assert there.samples() == package.samples()


def test_the_same_content_is_published_once_and_keeps_what_is_known_of_it(store, tmp_path, key):
    first = make_package(tmp_path / "a", about=about(owner="Ada"))
    second = make_package(tmp_path / "b", about=about(owner="Bob", metrics={"accuracy": 0.5}))
    assert first.digest == second.digest
    assert publish(tmp_path / "a" / "package", store, "digits", key=key).created
    again = publish(tmp_path / "b" / "package", store, "digits", key=key)
    assert not again.created
    assert published(store, "digits", again.digest).about.owner == "Ada"
    assert len(find(store, "digits")) == 1


def test_other_content_is_another_package(local, tmp_path):
    make_package(tmp_path / "a", {"model.joblib": b"one"})
    make_package(tmp_path / "b", {"model.joblib": b"two"})
    digests = {publish(tmp_path / name / "package", local, "digits").digest for name in "ab"}
    assert len(digests) == 2
    assert {package.digest for package in find(local, "digits")} == digests


def test_evidence_that_is_newer_is_added_to_a_published_package(store, directory, package, key, trusted):
    publish(directory, store, "digits", key=key)
    attested(package, key, "golden-replay", summary="3 of 3")
    assert not publish(directory, store, "digits", key=key).created
    (there,) = find(store, "digits")
    assert verify(there, trusted).evidence["golden-replay"].statement.summary == "3 of 3"


def test_an_unsigned_package_is_signed_by_publishing_it_again_with_a_key(store, directory, key, trusted):
    publish(directory, store, "digits")
    assert verify(find(store, "digits")[0], trusted).signed_by is None
    publish(directory, store, "digits", key=key)
    assert verify(find(store, "digits")[0], trusted).signed_by == "tester"


def test_a_signature_that_is_there_is_not_replaced_by_another_publisher(local, directory, key, stranger):
    publish(directory, local, "digits", key=key)
    publish(directory, local, "digits", key=stranger)
    assert verify(find(local, "digits")[0], trust(key)).signed_by == "tester"


def count_changes(directory, tmp_path, key) -> int:
    counting = CrashingStore(LocalStore(tmp_path / "counted"), at=10**9)
    publish(directory, counting, "digits", key=key)
    return counting.changes


@pytest.mark.parametrize("after", [False, True])
def test_a_publisher_that_dies_at_any_change_leaves_nothing_visible_and_the_next_one_succeeds(
    store, directory, package, key, stranger, trusted, tmp_path, after
):
    attested(package, key)
    changes = count_changes(directory, tmp_path, key)
    assert changes == 5  # model, samples, evidence, signature, manifest
    for at in range(changes):
        model = f"m{at}"
        with pytest.raises(Crash):
            publish(directory, CrashingStore(store, at, after), model, key=stranger)
        visible = find(store, model)
        assert len(visible) == (1 if after and at == changes - 1 else 0)
        publish(directory, store, model, key=key)
        verification = verify(find(store, model)[0], trusted)
        if not visible:
            assert verification.sound, (at, verification.problems)
            assert verification.signed_by == "tester"


def test_what_does_not_belong_to_a_package_is_removed_before_it_becomes_visible(store, directory, package, trusted):
    store.write(f"digits/{package.digest[:12]}/model/evil.joblib", b"x")
    publish(directory, store, "digits")
    assert verify(find(store, "digits")[0], trusted).sound


def test_many_publishers_at_once_make_one_package(store, directory, package, key, trusted):
    attested(package, key)
    with ThreadPoolExecutor(6) as threads:
        jobs = [threads.submit(publish, directory, store, "digits", key=key) for _ in range(6)]
        done = [job.result() for job in jobs]
    assert sum(each.created for each in done) == 1
    verification = verify(find(store, "digits")[0], trusted)
    assert verification.sound, verification.problems


def test_bytes_that_changed_since_they_were_packed_are_not_published(store, directory, key):
    path = directory / "model" / "model.joblib"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(TamperedPackage, match="signs other files"):
        publish(directory, store, "digits", key=key)
    with pytest.raises(TamperedPackage, match="changed after the package was built"):
        publish(directory, store, "digits")
    assert store.files("", 10) == []


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("model/model.joblib", b"", "changed after the package was built; build it again"),
        ("model/model.joblib", None, "is missing; build the package again"),
        ("samples.json", b"same", "changed after the package was built; build it again"),
        ("model/more.txt", b"x", "was added after the package was built; remove it"),
    ],
)
def test_nothing_is_sent_of_a_package_that_was_changed(store, directory, key, signed, name, data, problem):
    path = directory / name
    if data is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().swapcase() if data == b"same" else data)
    with pytest.raises(TamperedPackage, match=problem):
        publish(directory, store, "digits", key=key if signed else None)
    assert store.files("", 10) == []


def test_another_package_under_the_same_short_digest_is_refused(local, directory, package):
    content = package.content.model_copy(update={"version": "9"})
    other = compose(content, package.about)
    local.write(f"digits/{package.digest[:12]}/shoal-package.json", other.to_bytes())
    with pytest.raises(TamperedPackage, match="holds package"):
        publish(directory, local, "digits")


def test_evidence_of_another_package_or_model_is_refused(local, tmp_path, key):
    package = make_package(tmp_path)
    attested(package, key, model="other")
    with pytest.raises(InvalidPackage, match="about model 'other'"):
        publish(tmp_path / "package", local, "digits")


@pytest.mark.parametrize("name", ["", "Digits", "a/b", "../up", "-x", "x" * 201])
def test_names_of_models_are_checked(local, directory, name):
    with pytest.raises(InvalidPackage, match="no name for a model"):
        publish(directory, local, name)


def test_the_predictor_names_the_payload_by_digest(directory, package, tmp_path):
    claim = LocalStore(tmp_path / "pvcs" / "models", claim="models", prefix="team/a")
    done = publish(directory, claim, "digits")
    path = f"team/a/digits/{package.digest[:12]}/model"
    assert predictor_for(done) == {
        "model": {
            "modelFormat": {"name": "sklearn"},
            "storage": {"path": path, "parameters": {"type": "pvc", "name": "models"}},
        }
    }
    assert (tmp_path / "pvcs" / "models" / path / "model.joblib").is_file()
    assert done.uri == f"pvc://models/{path}"


@pytest.mark.server
def test_the_predictor_of_a_bucket_names_the_entry_that_reaches_it(directory, bucket, s3_options):
    done = publish(directory, bucket, "digits")
    predictor = predictor_for(dataclasses.replace(done, version="1"), runtime="mlserver-1.x")
    assert predictor == {
        "model": {
            "modelFormat": {"name": "sklearn", "version": "1"},
            "runtime": "mlserver-1.x",
            "storage": {
                "key": "tests",
                "path": f"{s3_options['prefix']}/digits/{done.digest[:12]}/model",
                "parameters": {"bucket": "models"},
            },
        }
    }


def test_a_package_that_is_not_there_is_said_to_be_missing(store):
    assert find(store, "digits") == []
    with pytest.raises(PackageNotFound, match=r"shoal-package\.json does not exist"):
        published(store, "digits", "0" * 64)


def killed(directory: Path, where: dict, key, kills: int, seconds: float) -> dict[str, int]:
    command = [sys.executable, package_victim.__file__, str(directory), json.dumps(where), str(key.path)]
    command += [str(key.path.with_name("signing.pub")), "--kills", str(kills), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def large(tmp_path, key) -> Path:
    package = make_package(tmp_path, {f"part-{number}.joblib": bytes([number]) * 300_000 for number in range(6)})
    attested(package, key)
    return tmp_path / "package"


@pytest.mark.search
def test_kills_at_random_moments_leave_whole_packages_only_in_a_directory(tmp_path, key):
    seen = killed(large(tmp_path, key), {"root": str(tmp_path / "store")}, key, 30, 0.3)
    assert seen["whole"] > 0
    assert seen["partial"] > 0, "no kill hit a publisher at work"


@pytest.mark.server
@pytest.mark.search
def test_kills_at_random_moments_leave_whole_packages_only_in_a_bucket(tmp_path, key, s3_options):
    seen = killed(large(tmp_path, key), s3_options, key, 30, 0.3)
    assert seen["whole"] > 0
    assert seen["partial"] > 0, "no kill hit a publisher at work"


def test_a_folder_is_removed_with_all_that_is_in_it_and_nothing_else(store):
    for path in ("tried/one/model/a", "tried/one/b", "tried/one.more/a", "tried/other/a"):
        store.write(path, b"x")
    store.delete_folder("tried/one")
    store.delete_folder("nowhere")
    assert [entry.path for entry in store.files("", 10)] == ["tried/one.more/a", "tried/other/a"]
    assert store.folders("tried") == ["one.more", "other"]
