"""Models in claims and directories: linked, confined, never copied."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from shoal_runtime.storage import ArtifactNotFoundError, InvalidStorageError
from support.runtime_storage import ask, put_entry, tree


@pytest.fixture
def claim(settings):
    folder = settings.pvc_dir / "claim"
    (folder / "models" / "m").mkdir(parents=True)
    (folder / "models" / "m" / "model.bin").write_bytes(b"12345")
    (folder / "models" / "m" / "empty").touch()
    (folder / "schema.json").write_text("{}")
    return folder


def pvc(path, model_id="m", schema=None, name="claim"):
    return ask(model_id, path, schema, type="pvc", name=name)


async def test_a_folder_is_linked(store, claim, settings):
    pulled = await store.pull(pvc("models/m", schema="schema.json"))
    assert pulled.path == settings.root_dir / "m" / "m"
    assert pulled.path.is_symlink()
    assert pulled.path.resolve() == claim / "models" / "m"
    assert pulled.schema_path.read_text() == "{}"
    assert pulled.disk_bytes == 5


async def test_the_whole_claim_and_a_colliding_schema(store, claim, settings):
    assert (await store.pull(pvc(""))).path == settings.root_dir / "m" / "_model"
    (claim / "other").mkdir()
    (claim / "other" / "schema.json").write_text("[]")
    pulled = await store.pull(pvc("other/schema.json", schema="schema.json"))
    assert (pulled.path.read_text(), pulled.schema_path.read_text()) == ("[]", "{}")


async def test_a_pull_again_replaces_and_a_removal_spares_the_claim(store, claim):
    await store.pull(pvc("models/m"))
    pulled = await store.pull(pvc("models/m/model.bin"))
    assert pulled.path.read_bytes() == b"12345"
    assert {entry.name for entry in pulled.path.parent.iterdir()} == {"model.bin"}
    await store.remove("m")
    await store.remove("m")
    assert store.known() == set()
    assert tree(claim)["models/m/model.bin"] == b"12345"


async def test_a_failed_pull_keeps_what_was_there(store, claim):
    pulled = await store.pull(pvc("models/m"))
    with pytest.raises(ArtifactNotFoundError):
        await store.pull(pvc("models/absent"))
    assert pulled.path.is_dir()


async def test_links_inside_the_claim_are_fine_also_in_circles(store, claim):
    (claim / "latest").symlink_to("models/m")
    (claim / "models" / "m" / "again").symlink_to(claim / "models" / "m")
    (claim / "models" / "m" / "copy.bin").symlink_to("model.bin")
    pulled = await store.pull(pvc("latest"))
    assert (pulled.path / "copy.bin").read_bytes() == b"12345"
    assert pulled.disk_bytes == 10


async def test_a_claim_may_be_a_link_itself(store, settings, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "m").write_bytes(b"x")
    settings.pvc_dir.mkdir()
    (settings.pvc_dir / "linked").symlink_to(tmp_path / "elsewhere")
    assert (await store.pull(pvc("m", name="linked"))).path.read_bytes() == b"x"


@pytest.mark.parametrize("where", ["models/m/out", "models/out", "models/m/sub/out"])
async def test_links_out_of_the_claim_are_refused(store, claim, tmp_path, where):
    (tmp_path / "secret").write_text("secret")
    (claim / where).parent.mkdir(exist_ok=True)
    (claim / where).symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidStorageError, match="leads out of it"):
        await store.pull(pvc(where if where == "models/out" else "models/m"))
    assert store.known() == set()


async def test_a_linked_folder_out_of_the_claim_is_refused(store, claim, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").touch()
    (claim / "models" / "m" / "dir").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidStorageError, match="leads out of it"):
        await store.pull(pvc("models/m"))


async def test_a_link_that_leads_nowhere_or_to_itself(store, claim):
    (claim / "self").symlink_to("self")
    (claim / "nowhere").symlink_to("absent")
    with pytest.raises(InvalidStorageError):
        await store.pull(pvc("self"))
    with pytest.raises(ArtifactNotFoundError):
        await store.pull(pvc("nowhere"))


@pytest.mark.parametrize(
    ("path", "name", "error", "message"),
    [
        ("absent", "claim", ArtifactNotFoundError, "claim 'claim' has no 'absent'"),
        ("m", "missing", ArtifactNotFoundError, "claim 'missing' is not there; create the claim"),
        ("m", "../claim", InvalidStorageError, "'name' is not the name of a persistent volume claim"),
        ("../other", "claim", InvalidStorageError, "must not contain"),
    ],
)
async def test_what_is_not_there_is_named(store, claim, path, name, error, message):
    with pytest.raises(error, match=message):
        await store.pull(pvc(path, name=name))


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("Models/m", "Is 'models' meant?"),
        ("models/n/x", "'models' has 'm'."),
        ("models/m/modle.bin", "Is 'model.bin' meant?"),
        ("models/m/zzzzzz", "'models/m' has 'empty', 'model.bin'."),
        ("zzzzzz", "It has 'models', 'schema.json'."),
    ],
)
async def test_what_is_there_instead_is_told(store, claim, path, instead):
    with pytest.raises(ArtifactNotFoundError) as told:
        await store.pull(pvc(path))
    assert str(told.value) == (
        f"persistent volume claim 'claim' has no '{path}'; check the path and that the files were put there. {instead}"
    )


async def test_what_is_outside_of_a_claim_is_not_told(store, claim, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "secret-name").touch()
    (claim / "out").symlink_to(tmp_path / "private")
    with pytest.raises(ArtifactNotFoundError) as told:
        await store.pull(pvc("out/secret-nam"))
    assert "secret-name" not in str(told.value)


async def test_a_local_directory_of_the_secret(store, settings, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "m").write_bytes(b"x")
    put_entry(settings.config_dir, "files", {"type": "local", "path": str(tmp_path / "data")})
    put_entry(settings.config_dir, "relative", {"type": "local", "path": "data"})
    put_entry(settings.config_dir, "gone", {"type": "local", "path": str(tmp_path / "gone")})
    assert (await store.pull(ask("m", "m", key="files"))).path.read_bytes() == b"x"
    with pytest.raises(InvalidStorageError, match="'path' must be absolute"):
        await store.pull(ask("m", "m", key="relative"))
    with pytest.raises(ArtifactNotFoundError, match="is not there"):
        await store.pull(ask("m", "m", key="gone"))


async def test_too_many_files_are_refused(make_store, claim):
    for n in range(10):
        (claim / "models" / "m" / str(n)).touch()
    with pytest.raises(InvalidStorageError, match="more than 5 files"):
        await make_store(max_files=5).pull(pvc("models/m"))


async def test_ids_that_look_like_paths_stay_in_the_root(store, claim, settings, tmp_path):
    ids = {"../up", "a/b", ".hidden", "_mlserver_models", "a.b", "a", "..", "per%20cent", "a.old"}
    for model_id in ids:
        await store.pull(pvc("models/m/model.bin", model_id))
    assert store.known() == ids
    assert {entry.name for entry in tmp_path.iterdir()} == {"models", "pvcs"}
    await store.remove("a")
    assert store.known() == ids - {"a"}
    (settings.root_dir / "_mlserver_models").mkdir()
    await store.purge()
    assert store.known() == set()
    assert (settings.root_dir / "_mlserver_models").is_dir()


async def test_a_new_process_finds_what_is_there_and_clears_what_was_half_done(make_store, claim, settings):
    await make_store().pull(pvc("models/m"))
    scratch = settings.root_dir / "_cache" / "staging" / "x"
    scratch.mkdir()
    (settings.root_dir / "_cache" / "partial" / "y").touch()
    assert make_store().known() == {"m"}
    assert not scratch.exists()
    assert not (settings.root_dir / "_cache" / "partial" / "y").exists()


async def test_a_cache_on_another_filesystem_is_refused_at_start(make_store):
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as other,
        pytest.raises(InvalidStorageError, match="MODEL_CACHE_DIR"),
    ):
        make_store(cache_dir=Path(other) / "cache")
