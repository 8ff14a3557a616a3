"""Where packages are published, by the resources' settings."""

from __future__ import annotations

from pathlib import Path

import pytest

import dagster as dg
from dagster_shoal import LocalModelStore, S3ModelStore
from shoal.package.keys import ensure_keys, generate_keys


def test_a_claim_is_a_directory_of_the_state_directory(tmp_path: Path):
    store = LocalModelStore(state_dir=str(tmp_path), claim="mine", prefix="team/")
    address = store.open().address("m/0123456789ab/model")
    assert address.parameters == {"type": "pvc", "name": "mine"}
    assert address.path == "team/m/0123456789ab/model"
    assert store.open(scratch=True).address("m/0123456789ab/model").path == "team/scratch/m/0123456789ab/model"
    assert (tmp_path / "pvcs" / "mine").is_dir()


def test_a_bucket_is_named_by_its_storage_key():
    store = S3ModelStore(endpoint="http://127.0.0.1:9000", bucket="b", storage_key="minio", prefix="p")
    address = store.open().address("m/0123456789ab/model")
    assert (address.uri, address.key, address.path) == (
        "s3://b/p/m/0123456789ab/model",
        "minio",
        "p/m/0123456789ab/model",
    )


def test_keys_are_the_clusters_own_or_those_given(tmp_path: Path):
    own = ensure_keys(tmp_path)
    assert LocalModelStore(state_dir=str(tmp_path)).signer().path == own.private
    other = generate_keys(tmp_path / "other")
    given = LocalModelStore(state_dir=str(tmp_path), signing_key=str(other.private), trusted_key=str(own.public))
    assert given.signer().path == other.private
    assert given.trusted().get(LocalModelStore(state_dir=str(tmp_path)).signer().public.id) is not None


def test_a_bucket_needs_a_key_to_sign_with():
    with pytest.raises(ValueError, match="shoal package keygen"):
        S3ModelStore(endpoint="http://127.0.0.1:9000", bucket="b").signer()


def test_drafts_are_in_dagsters_storage_unless_said_otherwise(instance: dg.DagsterInstance):
    assert LocalModelStore().work(instance) == Path(instance.storage_directory()) / "shoal"
    assert LocalModelStore(work_dir="/shared").work(instance) == Path("/shared")
