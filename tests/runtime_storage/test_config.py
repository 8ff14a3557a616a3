"""Which store a model key leads to: upstream's resolution, and what it lacks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_runtime.storage import ArtifactNotFoundError, InvalidStorageError, ModelKey, parse_model_key
from shoal_runtime.storage.config import resolve
from shoal_runtime.storage.paths import clean, folder_name, local_names, model_id_of
from support.runtime_storage import put_entry

FIELDS = ["storage_key", "storage_params", "model_type", "schema_path", "bucket", "disk_size_bytes"]


@pytest.fixture
def config_dir(tmp_path):
    folder = tmp_path / "storage-config"
    put_entry(folder, "minio", {"type": "s3", "bucket": "stored", "nested": {"a": "1"}, "number": 5})
    put_entry(folder, "old", {"type": "s3", "default_bucket": "default"})
    put_entry(folder, "bare", {"type": "s3"})
    put_entry(folder, "default", {"type": "pvc", "name": "default-claim"})
    put_entry(folder, "default_http", {"type": "http", "url": "http://default"})
    put_entry(folder, "files", {"type": "local", "path": "/data"})
    (folder / "broken").write_text('{"secret_access_key": "top-secret", ')
    (folder / "list").write_text("[]")
    return folder


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (ModelKey(storage_key="minio"), {"bucket": "stored"}),
        (ModelKey(storage_key="minio", bucket="from-key"), {"bucket": "from-key"}),
        (ModelKey(storage_key="bare", bucket="from-key"), {"bucket": None}),
        (
            ModelKey(storage_key="minio", bucket="b", storage_params={"bucket": "from-params"}),
            {"bucket": "from-params"},
        ),
        (ModelKey(storage_key="old"), {"bucket": "default"}),
        (ModelKey(storage_key="old", bucket="from-key"), {"bucket": "from-key"}),
        (ModelKey(), {"type": "pvc", "name": "default-claim"}),
        (ModelKey(storage_params={"name": "other"}), {"type": "pvc", "name": "other"}),
        (ModelKey(storage_params={"type": "http"}), {"url": "http://default"}),
        (ModelKey(storage_params={"type": "http", "url": "http://own"}), {"url": "http://own"}),
        (ModelKey(storage_params={"type": "pvc", "name": "x"}), {"type": "pvc", "name": "x"}),
        (ModelKey(storage_key="minio", storage_params={"nested.a": "2"}), {"nested": {"a": "2"}}),
        (ModelKey(storage_key="minio", storage_params={"nested.b.c": "2"}), {"nested": {"a": "1", "b": {"c": "2"}}}),
        (ModelKey(storage_key="minio", storage_params={"x.y": "1", "x.z": "2"}), {"x": {"y": "1", "z": "2"}}),
        (ModelKey(storage_key="files"), {"path": "/data"}),
    ],
)
def test_resolution(config_dir, key, values):
    config = resolve(key, config_dir)
    assert {name: config.values.get(name) for name in values} == values


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (
            ModelKey(storage_key="absent"),
            ArtifactNotFoundError,
            "storage-config entry 'absent' does not exist; add it to the Secret, or correct storage.key",
        ),
        (ModelKey(storage_key="../etc/passwd"), InvalidStorageError, "is not the name of an entry"),
        (ModelKey(storage_key="broken"), InvalidStorageError, "not valid JSON"),
        (ModelKey(storage_key="list"), InvalidStorageError, "must be a JSON object"),
        (
            ModelKey(storage_params={"type": "gcs"}),
            InvalidStorageError,
            "gcs is not supported yet: use one of s3, http, pvc, local",
        ),
        (ModelKey(storage_params={"type": "azure"}), InvalidStorageError, "azure is not supported yet"),
        (ModelKey(storage_params={"type": "ftp"}), InvalidStorageError, "'type' is 'ftp'; supported are"),
        (ModelKey(storage_params={"type": "/../x"}), InvalidStorageError, "is not the name"),
        (ModelKey(storage_key="minio", storage_params={"number": "6"}), InvalidStorageError, "'number' would replace"),
        (ModelKey(storage_key="minio", storage_params={"nested": "6"}), InvalidStorageError, "'nested' would replace"),
        (ModelKey(storage_key="minio", storage_params={"bucket.x": "6"}), InvalidStorageError, "goes into 'bucket'"),
        (ModelKey(storage_key="minio", storage_params={"a..b": "6"}), InvalidStorageError, "empty part"),
        (
            ModelKey(storage_key="files", storage_params={"path": "/"}),
            InvalidStorageError,
            "in the storage-config Secret",
        ),
        (ModelKey(storage_key="minio", storage_params={"type": "local", "path": "/"}), InvalidStorageError, "only"),
    ],
)
def test_what_does_not_resolve(config_dir, key, error, message):
    with pytest.raises(error, match=message) as caught:
        resolve(key, config_dir)
    assert "top-secret" not in f"{caught.value} {caught.value.__context__}"


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"type": "http", "url": "https://ours", "headers": {"Authorization": "top-secret"}}, "url"),
        ({"type": "http", "url": "https://ours", "client_certificate": "c", "client_key": "top-secret"}, "url"),
        ({"type": "s3", "endpoint_url": "https://ours", "secret_access_key": "top-secret"}, "endpoint_url"),
        ({"type": "s3", "access_key_id": "a", "secret_access_key": "top-secret"}, "endpoint_url"),
        ({"type": "s3", "endpoint_url": "https://ours", "headers": {"X-Key": "top-secret"}}, "url"),
    ],
)
def test_credentials_are_not_sent_where_a_model_says(config_dir, entry, field):
    put_entry(config_dir, "keyed", entry)
    redirecting = ModelKey(storage_key="keyed", storage_params={field: "https://theirs", "type": "http"})
    with pytest.raises(
        InvalidStorageError, match=f"^storage.parameters.{field}: .*'keyed' holds credentials"
    ) as caught:
        resolve(redirecting, config_dir)
    assert "top-secret" not in str(caught.value)
    if field in entry:
        same = ModelKey(storage_key="keyed", storage_params={field: entry[field]})
        assert resolve(same, config_dir).values[field] == "https://ours"


def test_the_default_entry_is_protected_as_well(config_dir):
    put_entry(config_dir, "default_http", {"type": "http", "url": "https://ours", "headers": {"X-Key": "top-secret"}})
    with pytest.raises(InvalidStorageError, match="holds credentials"):
        resolve(ModelKey(storage_params={"type": "http", "url": "https://theirs"}), config_dir)


def test_without_any_entry_the_parameters_must_name_a_type(tmp_path):
    assert resolve(ModelKey(storage_params={"type": "pvc", "name": "c"}), tmp_path / "none").type == "pvc"
    with pytest.raises(InvalidStorageError, match=r"'type' is missing; set storage\.key"):
        resolve(ModelKey(storage_params={"name": "c"}), tmp_path / "none")


def test_a_changed_entry_counts_at_once(config_dir):
    put_entry(config_dir, "minio", {"type": "http", "url": "http://new"})
    assert resolve(ModelKey(storage_key="minio"), config_dir).type == "http"


def test_secrets_have_no_repr(config_dir):
    put_entry(config_dir, "s", {"type": "s3", "secret_access_key": "hidden"})
    key = ModelKey(storage_key="s", storage_params={"password": "hidden"})
    assert "hidden" not in repr(key) + repr(resolve(key, config_dir))


def test_a_key_as_the_controller_writes_it():
    text = (
        '{"storage_key": "k", "storage_params": {"bucket": "b"}, "model_type": {"name": "sklearn", "version": "1"}, '
        '"schema_path": "s.json", "bucket": "old", "disk_size_bytes": 7, "unknown": 1}'
    )
    assert parse_model_key(text) == ModelKey(
        {"name": "sklearn", "version": "1"}, "k", {"bucket": "b"}, "s.json", "old", 7
    )
    assert parse_model_key("") == ModelKey() == parse_model_key("{}")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "modelKey is not JSON"),
        ("[]", "modelKey must be a JSON object"),
        ('{"model_type": 5}', "model_type"),
        ('{"storage_key": 5}', "storage_key"),
        ('{"storage_params": []}', "storage_params"),
        ('{"storage_params": {"a": 5}}', r"storage_params\['a'\]"),
        ('{"schema_path": {}}', "schema_path"),
        ('{"bucket": 1}', "bucket"),
        ('{"disk_size_bytes": -1}', "disk_size_bytes"),
        ('{"disk_size_bytes": true}', "disk_size_bytes"),
        ("[" * 100_000, "modelKey"),
    ],
)
def test_a_wrong_key_names_its_field(text, field):
    with pytest.raises(InvalidStorageError, match=field):
        parse_model_key(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_breaks_the_parser(document):
    try:
        parse_model_key(json.dumps(document))
    except InvalidStorageError:
        pass


@given(st.text(min_size=1, max_size=80).filter(lambda text: text.isprintable()))
def test_any_model_id_gets_a_folder_of_its_own(model_id):
    try:
        name = folder_name(model_id)
    except InvalidStorageError:
        return
    assert "/" not in name
    assert name[0] not in "._"
    assert model_id_of(name) == model_id


@pytest.mark.parametrize("model_id", ["", "a\0b", "x" * 300, "\ud800"])
def test_impossible_model_ids_are_refused(model_id):
    with pytest.raises(InvalidStorageError, match="modelId"):
        folder_name(model_id)


@pytest.mark.parametrize("path", ["..", "a/..", "../a", "a/../../b", "/..", "nul\0", "x" * 5000, f"a/{'x' * 300}"])
def test_paths_that_leave_the_store_are_refused(path):
    with pytest.raises(InvalidStorageError, match=r"storage\.path"):
        clean(path, "storage.path")


@pytest.mark.parametrize(
    ("model", "schema", "names"),
    [
        ("/a/m.bin", None, ("m.bin", None)),
        ("a//./m/", "s/x.json", ("m", "x.json")),
        ("", None, ("_model", None)),
        ("/", "_model", ("_model", "_schema.json")),
        ("a/m", "b/m", ("m", "_schema.json")),
    ],
)
def test_local_names(model, schema, names):
    cleaned = None if schema is None else clean(schema, "schema")
    assert local_names(clean(model, "path"), cleaned) == names
