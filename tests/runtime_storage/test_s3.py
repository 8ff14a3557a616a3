"""Pulling from a real S3 server."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os

import pytest
from minio import Minio

from shoal_runtime.storage import (
    ArtifactNotFoundError,
    InvalidStorageError,
    StorageDeniedError,
    StorageError,
    StorageExhaustedError,
    StorageUnavailableError,
)
from shoal_runtime.storage import s3 as module
from support.runtime_storage import ask, put_entry, s3_server, tree

pytestmark = pytest.mark.server


@pytest.fixture
def bucket(s3, settings):
    """Put objects into the bucket `models`; a storage-config entry `s3` leads there."""
    client = client_of(s3)
    if client.bucket_exists(bucket_name="models"):
        for found in client.list_objects(bucket_name="models", recursive=True):
            client.remove_object(bucket_name="models", object_name=found.object_name)
    else:
        client.make_bucket(bucket_name="models")
    put_entry(settings.config_dir, "s3", s3.entry())

    def put(objects: dict[str, bytes]) -> None:
        for key, content in objects.items():
            client.put_object(bucket_name="models", object_name=key, data=io.BytesIO(content), length=len(content))

    return put


def client_of(server):
    secure = server.url.startswith("https")
    return Minio(
        endpoint=server.url.partition("://")[2],
        access_key=server.access,
        secret_key=server.secret,
        secure=secure,
        region="us-east-1",
    )


async def test_one_object(store, bucket, settings):
    bucket({"sklearn/mnist-svm.joblib": b"model"})
    pulled = await store.pull(ask("m", "/sklearn/mnist-svm.joblib", key="s3"))
    assert pulled.path == settings.root_dir / "m" / "mnist-svm.joblib"
    assert pulled.path.read_bytes() == b"model"
    assert pulled.disk_bytes == 5


async def test_a_folder_and_not_its_neighbours_with_a_longer_name(store, bucket, settings):
    bucket(
        {
            "models/mnist/model.bin": b"1",
            "models/mnist/sub/__init__.py": b"",
            "models/mnist2/model.bin": b"2",
            "models/mnist-old": b"3",
        }
    )
    pulled = await store.pull(ask("m", "models/mnist", key="s3"))
    assert tree(settings.root_dir / "m") == {"mnist/model.bin": b"1", "mnist/sub/__init__.py": b""}
    assert pulled.disk_bytes == 1


async def test_the_whole_bucket(store, bucket, settings):
    bucket({"a": b"1", "b/c": b"2"})
    await store.pull(ask("m", "", key="s3"))
    assert tree(settings.root_dir / "m") == {"_model/a": b"1", "_model/b/c": b"2"}


async def test_a_schema_beside_the_model(store, bucket, settings):
    bucket({"m/model": b"1", "schema/model": b"{}"})
    pulled = await store.pull(ask("m", "m/model", "schema/model", key="s3"))
    assert pulled.schema_path == settings.root_dir / "m" / "_schema.json"
    assert tree(settings.root_dir / "m") == {"model": b"1", "_schema.json": b"{}"}


async def test_more_objects_than_a_page_of_the_listing(store, bucket, s3):
    # Written into the server's folder, which is quicker than 1,200 uploads.
    folder = s3.root / "models" / "many"
    folder.mkdir(parents=True)
    for n in range(1200):
        (folder / f"{n:04}").write_text(str(n))
    pulled = await store.pull(ask("m", "many", key="s3"))
    assert {name: int(content) for name, content in tree(pulled.path).items()} == {f"{n:04}": n for n in range(1200)}


async def test_a_large_multipart_object(store, bucket):
    content = os.urandom(12 * 1024 * 1024)
    bucket({"large": content})
    assert (await store.pull(ask("m", "large", key="s3"))).path.read_bytes() == content


async def test_what_is_there_already_is_not_downloaded_again(store, bucket, s3):
    bucket({"f/a": b"same", "f/b": b"old"})
    first = await store.pull(ask("one", "f", key="s3"))
    bucket({"f/b": b"new"})
    second = await store.pull(ask("two", "f", key="s3"))
    assert tree(second.path) == {"a": b"same", "b": b"new"}
    assert (first.path / "a").stat().st_ino == (second.path / "a").stat().st_ino
    assert tree(first.path) == {"a": b"same", "b": b"old"}


async def test_a_partial_download_is_completed_not_repeated(store, bucket, monkeypatch):
    content = os.urandom(5 * 1024 * 1024)
    bucket({"large": content})
    offsets = []
    original_start, original_chunks = module.S3Store._start, module.S3Store._chunks

    def spy(self, item, offset, match):
        offsets.append(offset)
        return original_start(self, item, offset, match)

    async def broken(self, answer, key):
        chunks = original_chunks(self, answer, key)
        yield await anext(chunks)
        if len(offsets) < 3:
            raise StorageUnavailableError("the network broke")
        async for chunk in chunks:
            yield chunk

    monkeypatch.setattr(module.S3Store, "_start", spy)
    monkeypatch.setattr(module.S3Store, "_chunks", broken)
    assert (await store.pull(ask("m", "large", key="s3"))).path.read_bytes() == content
    assert offsets == [0, 1024 * 1024, 2 * 1024 * 1024]


async def test_a_prefetched_folder_is_not_downloaded_again(store, bucket, monkeypatch):
    bucket({"f/a": b"1", "f/b": b"2", "schema": b"{}"})
    asked, here = [], asyncio.Event()
    start = module.S3Store._start

    def spy(self, item, offset, match):
        asked.append(item.key)
        return start(self, item, offset, match)

    async def say():
        here.set()

    monkeypatch.setattr(module.S3Store, "_start", spy)
    request = ask("m", "f", "schema", key="s3")
    prefetch = asyncio.create_task(store.prefetch(request, say))
    await here.wait()
    pulled = await store.pull(request)
    prefetch.cancel()
    await asyncio.wait([prefetch])
    assert tree(pulled.path) == {"a": b"1", "b": b"2"}
    assert pulled.schema_path.read_bytes() == b"{}"
    assert sorted(asked) == ["f/a", "f/b", "schema"]


async def test_a_missing_object_is_told_with_what_is_there_instead(store, bucket, s3):
    bucket({"sklearn/mnist-svm.joblib": b"1", "sklearn/other.joblib": b"1", "onnx/digits.onnx": b"1", "z": b"1"})
    asked = {
        "sklearn/mnist_svm.joblib": "Is 'mnist-svm.joblib' meant?",
        "SKLearn/mnist-svm.joblib": "Is 'sklearn' meant?",
        "sklearn/x/y": "s3://models/sklearn/ has 'mnist-svm.joblib', 'other.joblib'.",
        "zzzzzz": "s3://models/ has 'onnx', 'sklearn', 'z'.",
    }
    for path, instead in asked.items():
        with pytest.raises(ArtifactNotFoundError) as told:
            await store.pull(ask("m", path, key="s3"))
        assert str(told.value) == f"s3://models/{path} does not exist at {s3.url}. {instead} Correct storage.path"
    assert store.known() == set()


async def test_a_missing_bucket_is_told_with_those_of_like_names(store, bucket, s3):
    bucket({"m": b"1"})
    with pytest.raises(ArtifactNotFoundError) as told:
        await store.pull(ask("m", "x", key="s3", bucket="modles"))
    assert str(told.value) == (
        f"bucket 'modles' does not exist at {s3.url}. Is 'models' meant? "
        "Correct field 'bucket' of storage-config entry 's3', or storage.parameters.bucket"
    )
    with pytest.raises(ArtifactNotFoundError, match=r"'elsewhere' does not exist at .*\. Correct field 'bucket'"):
        await store.pull(ask("m", "x", key="s3", bucket="elsewhere"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"secret_access_key": "wrong-secret"},
            "(SignatureDoesNotMatch); field 'secret_access_key' of storage-config entry 'wrong' is wrong, "
            "or does not belong to 'access_key_id'",
        ),
        (
            {"access_key_id": "nobody"},
            "(XAdminUserNotFound); field 'access_key_id' of storage-config entry 'wrong' is not known there; "
            "correct it",
        ),
    ],
)
async def test_wrong_credentials_are_denied_by_field_and_not_shown(store, bucket, s3, settings, caplog, changed, words):
    bucket({"m": b"1"})
    put_entry(settings.config_dir, "wrong", s3.entry(**changed))
    with caplog.at_level("DEBUG"), pytest.raises(StorageDeniedError) as caught:
        await store.pull(ask("m", "m", key="wrong"))
    assert str(caught.value) == f"s3://models/m may not be read at {s3.url} {words}"
    shown = f"{caught.value!r} {caught.value.__context__!r} {caplog.text}"
    assert not any(secret in shown for secret in (s3.secret, "wrong-secret", "nobody"))


async def test_a_wrong_region_is_told_with_the_stores_own_words(store, bucket, s3, settings):
    bucket({"m": b"1"})
    put_entry(settings.config_dir, "wrong", s3.entry(region="mars-1"))
    with pytest.raises(StorageError) as told:
        await store.pull(ask("m", "m", key="wrong"))
    assert 'the region "mars-1" is wrong' in str(told.value)
    assert str(told.value).endswith("check endpoint_url, region and bucket")


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        (
            "http://127.0.0.1:9",
            StorageUnavailableError,
            "nothing listens there; check host and port, and that the server runs",
        ),
        (
            "http://no-such-host.invalid:9000",
            StorageUnavailableError,
            "its host name is not known; check the name in the address",
        ),
    ],
)
async def test_a_server_that_is_not_there_is_told_with_its_address_and_why(store, s3, settings, address, kind, words):
    put_entry(settings.config_dir, "gone", s3.entry(endpoint_url=address))
    with pytest.raises(kind) as told:
        await store.pull(ask("m", "m", key="gone"))
    assert str(told.value) == f"s3://models/m: {address} does not answer: {words}"


async def test_a_server_without_tls_is_told(store, s3, settings):
    address = s3.url.replace("http://", "https://")
    put_entry(settings.config_dir, "plain", s3.entry(endpoint_url=address))
    with pytest.raises(InvalidStorageError) as told:
        await store.pull(ask("m", "m", key="plain"))
    assert str(told.value) == (
        f"s3://models/m: {address} does not answer: it does not speak TLS; use http:// in the address"
    )


@pytest.mark.parametrize("key", ["f/../../escape", "f//x", "f/./x"])
async def test_object_keys_that_are_no_file_paths_are_refused(store, bucket, s3, settings, key, monkeypatch):
    # No such object can be made on this server, so its listing is bent.
    bucket({"f/a": b""})
    found = module.Minio.list_objects

    def bent(self, **arguments):
        for item in found(self, **arguments):
            yield dataclasses.replace(item, object_name=key)

    monkeypatch.setattr(module.Minio, "list_objects", bent)
    with pytest.raises(InvalidStorageError, match="object key"):
        await store.pull(ask("m", "f", key="s3"))
    assert store.known() == set()


async def test_more_objects_than_a_model_may_have(make_store, bucket):
    bucket({f"f/{n}": b"" for n in range(4)})
    with pytest.raises(InvalidStorageError, match="more than 3 objects"):
        await make_store(max_files=3).pull(ask("m", "f", key="s3"))


async def test_a_model_larger_than_the_disk_is_refused_before_any_download(make_store, bucket, settings):
    bucket({f"f/{n}": bytes(1000) + bytes([n]) for n in range(4)})
    with pytest.raises(StorageExhaustedError, match=r"f needs 4004 bytes .* and 3000 are free"):
        await make_store(disk_bytes=3000).pull(ask("m", "f", key="s3"))
    assert list((settings.root_dir / "_cache" / "objects").iterdir()) == []


async def test_a_cancelled_pull_of_a_folder_leaves_nothing(store, bucket, settings):
    bucket({f"f/{n}": os.urandom(2_000_000) for n in range(6)})
    for steps in (1, 5, 20, 60):
        pull = asyncio.create_task(store.pull(ask("m", "f", key="s3")))
        for _ in range(steps):
            await asyncio.sleep(0.001)
        pull.cancel()
        await asyncio.wait([pull])
        if pull.cancelled():
            assert store.known() == set()
        assert [*(settings.root_dir / "_cache" / "partial").iterdir()] == []
        assert [*(settings.root_dir / "_cache" / "staging").iterdir()] == []
    assert len(tree((await store.pull(ask("m", "f", key="s3"))).path)) == 6


async def test_the_region_may_be_left_to_the_server(store, bucket, settings, s3):
    bucket({"m": b"1"})
    put_entry(settings.config_dir, "s3", {name: value for name, value in s3.entry().items() if name != "region"})
    assert (await store.pull(ask("m", "m", key="s3"))).path.read_bytes() == b"1"


async def test_a_custom_authority(store, settings, pki, tmp_path):
    folder = tmp_path / "tls"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "m").write_bytes(b"model")
    with s3_server(folder, pki / "crt", pki / "key") as server:
        put_entry(settings.config_dir, "tls", server.entry(certificate=(pki / "ca").read_text()))
        put_entry(settings.config_dir, "untrusted", server.entry())
        assert (await store.pull(ask("m", "m", key="tls"))).path.read_bytes() == b"model"
        with pytest.raises(InvalidStorageError) as told:
            await store.pull(ask("m", "m", key="untrusted"))
        assert "its certificate is not trusted (" in str(told.value)
        assert str(told.value).endswith("); put the authority's certificate into field 'certificate'")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"endpoint_url": None}, "field 'endpoint_url' is missing; a store of type s3 needs it"),
        ({"endpoint_url": "minio:9000"}, "'endpoint_url' must be like"),
        ({"endpoint_url": "http://h:9/path"}, "'endpoint_url' must be like"),
        ({"bucket": None}, "'bucket' is missing"),
        ({"secret_access_key": None}, "'secret_access_key' is missing"),
        ({"access_key_id": None}, "'access_key_id' is missing"),
        ({"certificate": "nonsense"}, "'certificate' is not a PEM"),
        ({"bucket": "NO_BUCKET!"}, "invalid bucket name NO_BUCKET!; correct bucket"),
    ],
)
async def test_wrong_fields_are_named(store, settings, s3, entry, problem):
    full = {name: value for name, value in (s3.entry() | entry).items() if value is not None}
    put_entry(settings.config_dir, "x", full)
    with pytest.raises(InvalidStorageError, match=problem):
        await store.pull(ask("m", "m", key="x"))


async def test_a_file_that_is_removed_from_the_cache_while_it_is_linked_is_downloaded_again(
    store, bucket, settings, monkeypatch
):
    bucket({"m/a.bin": b"first", "m/b.bin": b"second"})
    link, removals = os.link, iter([True])

    def robbed(source, place):
        if place.name == "b.bin" and next(removals, False):
            source.unlink()
        link(source, place)

    monkeypatch.setattr(os, "link", robbed)
    pulled = await store.pull(ask("m", "m", key="s3"))
    assert tree(pulled.path) == {"a.bin": b"first", "b.bin": b"second"}
    cache = settings.root_dir / "_cache" / "objects"
    assert sorted(file.read_bytes() for file in cache.iterdir()) == [b"first", b"second"]


async def test_a_cache_that_loses_files_again_and_again_is_said_to(store, bucket, settings, monkeypatch):
    bucket({"m/a.bin": b"first"})
    link = os.link

    def robbed(source, place):
        source.unlink()
        link(source, place)

    monkeypatch.setattr(os, "link", robbed)
    with pytest.raises(
        StorageUnavailableError, match="vanish while they are used; leave MODEL_CACHE_DIR to the adapter"
    ):
        await store.pull(ask("m", "m", key="s3"))
    assert store.known() == set()
