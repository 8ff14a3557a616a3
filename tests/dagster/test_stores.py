"""Where packages are published, by the resources' settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import dagster as dg
from dagster_shoal import LocalModelStore, S3ModelStore, ShoalResource, build_model_assets, build_model_definitions
from dagster_shoal.sensors import new_packages_sensor
from shoal.package.errors import InvalidPackage, StoreUnavailable
from shoal.package.keys import ensure_keys, generate_keys
from shoal.package.package import find, published
from shoal.package.verify import verify
from support.dagster import metadata, run, stump
from support.runtime_storage import s3_server


def test_a_claim_is_a_directory_of_the_state_directory(tmp_path: Path):
    store = LocalModelStore(state_dir=str(tmp_path), claim="mine", prefix="team/")
    address = store.open().address("m/0123456789ab/model")
    assert address.parameters == {"type": "pvc", "name": "mine"}
    assert address.path == "team/m/0123456789ab/model"
    tried = store.open(scratch="run").address("m/0123456789ab/model")
    assert tried.path == "team/scratch/run/m/0123456789ab/model"
    assert (tmp_path / "pvcs" / "mine").is_dir()


def test_a_bucket_is_named_by_its_storage_key():
    store = S3ModelStore(endpoint="http://127.0.0.1:9000", bucket="b", storage_key="minio", prefix="p")
    address = store.open().address("m/0123456789ab/model")
    assert (address.uri, address.key, address.path) == (
        "s3://b/p/m/0123456789ab/model",
        "minio",
        "p/m/0123456789ab/model",
    )


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[S3ModelStore]:
    """A bucket of a real S3 server, and a key to sign with."""
    (tmp_path / "s3" / "models").mkdir(parents=True)
    key = generate_keys(tmp_path / "keys").private
    with s3_server(tmp_path / "s3") as server:
        yield S3ModelStore(
            endpoint=server.url,
            bucket="models",
            access_key=server.access,
            secret_key=server.secret,
            region="us-east-1",
            prefix="team",
            storage_key="here",
            signing_key=str(key),
            work_dir=str(tmp_path / "work"),
        )


def pipeline(store: S3ModelStore, state_dir: Path) -> dg.Definitions:
    return build_model_definitions(
        [stump()], resources={"shoal": ShoalResource(state_dir=str(state_dir)), "model_store": store}
    )


UP_TO_PUBLISHED = ["training_data", "trained_model", "validated_model", "model_package", "published_model"]


@pytest.mark.server
def test_a_model_is_published_to_a_bucket_and_found_there(
    bucket: S3ModelStore, tmp_path: Path, instance: dg.DagsterInstance
):
    defs = pipeline(bucket, tmp_path)
    told = metadata(run(defs, instance, UP_TO_PUBLISHED), "published_model")
    (package,) = find(bucket.open(), "stump")
    assert package.digest == told["digest"]
    assert told["dagster/uri"] == f"s3://models/team/stump/{package.digest[:12]}/model"
    found = verify(published(bucket.open(), "stump", told["digest"]), bucket.trusted())
    assert found.sound
    assert found.signed_by == found.sealed_by
    assert found.evidence["scan"].statement.passed
    sensor = new_packages_sensor(build_model_assets([stump()]))
    tick = sensor(dg.build_sensor_context(instance=instance, resources={"model_store": bucket}))
    assert isinstance(tick, dg.SensorResult)
    assert package.digest[:12] in str(tick.run_requests or tick.skip_reason or tick.cursor)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s3" / "models" / "team" / "stump").rglob("model*")}
    again = metadata(run(defs, instance, UP_TO_PUBLISHED), "published_model")
    assert again["digest"] == told["digest"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.server
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"secret_key": "other"}, "check the credentials"),
        ({"bucket": "nowhere"}, "make the bucket first"),
        ({"endpoint": "http://127.0.0.1:9"}, "http://127.0.0.1:9 does not answer; check its address"),
    ],
)
def test_a_bucket_that_cannot_be_reached_says_why(bucket: S3ModelStore, wrong: dict[str, str], said: str):
    with pytest.raises(StoreUnavailable, match=said):
        find(bucket.model_copy(update=wrong).open(), "stump")


def test_a_malformed_address_is_refused():
    with pytest.raises(InvalidPackage, match="must be like https://host:port"):
        S3ModelStore(endpoint="minio:9000", bucket="b").open()


def test_keys_are_the_clusters_own_or_those_given(tmp_path: Path):
    own = ensure_keys(tmp_path)
    assert LocalModelStore(state_dir=str(tmp_path)).signer().path == own.private
    other = generate_keys(tmp_path / "other")
    given = LocalModelStore(state_dir=str(tmp_path), signing_key=str(other.private), trusted_key=str(own.public))
    assert given.signer().path == other.private
    assert given.trusted().get(LocalModelStore(state_dir=str(tmp_path)).signer().public.id) is not None


def test_a_bucket_needs_a_key_to_sign_with():
    with pytest.raises(InvalidPackage, match="shoal package keygen"):
        S3ModelStore(endpoint="http://127.0.0.1:9000", bucket="b").signer()


def test_drafts_are_in_dagsters_storage_unless_said_otherwise(instance: dg.DagsterInstance):
    assert LocalModelStore().work(instance) == Path(instance.storage_directory()) / "shoal"
    assert LocalModelStore(work_dir="/shared").work(instance) == Path("/shared")
