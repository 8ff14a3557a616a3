"""What stays on the disk, what goes first, and how much fits."""

from __future__ import annotations

import asyncio
import io
import tarfile

import pytest

from shoal_runtime.storage import StorageExhaustedError
from shoal_runtime.storage.puller import RemotePuller
from support.runtime_storage import File, ask

pytestmark = pytest.mark.server
SIZE = 100_000


@pytest.fixture
def pull(web):
    """Pull the file of a number as a model of that number."""
    for n in range(10):
        web.files[f"/{n}"] = File(bytes([n]) * SIZE)

    async def run(store, n, model_id=None):
        return await store.pull(ask(model_id or f"m{n}", str(n), type="http", url=web.url))

    return run


def cached(settings):
    """The numbers of the cached files."""
    return sorted(file.read_bytes()[0] for file in (settings.root_dir / "_cache" / "objects").iterdir())


async def test_files_no_model_uses_are_dropped_least_recently_used_first(make_store, pull, settings):
    store = make_store(cache_bytes=3 * SIZE)
    for n in (0, 1, 2):
        await pull(store, n)
        await store.remove(f"m{n}")
    await pull(store, 0)
    await store.remove("m0")
    await pull(store, 3)
    assert cached(settings) == [0, 2, 3]


async def test_files_in_use_stay_however_small_the_cache(make_store, pull, settings, web):
    store = make_store(cache_bytes=0)
    pulled = [await pull(store, n) for n in range(4)]
    assert cached(settings) == [0, 1, 2, 3]
    await pull(store, 0, "again")
    assert len(web.downloads("/0")) == 1
    await store.remove("m0")
    assert cached(settings) == [0, 1, 2, 3]
    await store.remove("again")
    await store.remove("m1")
    assert cached(settings) == [2, 3]
    assert pulled[2].path.read_bytes() == bytes([2]) * SIZE


async def test_a_new_process_goes_on_with_the_cache(make_store, pull, settings, web):
    first = make_store()
    for n in (0, 1, 2):
        await pull(first, n)
    await first.remove("m0")
    await first.remove("m2")
    second = make_store(cache_bytes=2 * SIZE)
    assert cached(settings) == [1, 2]
    await pull(second, 2)
    assert len(web.downloads("/2")) == 1


async def test_unused_files_make_room_for_new_ones_used_ones_do_not(make_store, pull, settings):
    store = make_store(disk_bytes=3 * SIZE)
    for n in (0, 1, 2):
        await pull(store, n)
    with pytest.raises(StorageExhaustedError, match=f"needs {SIZE} bytes on this pod's disk and 0 are free"):
        await pull(store, 3)
    await store.remove("m1")
    await pull(store, 3)
    assert cached(settings) == [0, 2, 3]


async def test_concurrent_pulls_do_not_promise_the_same_room_twice(make_store, pull, settings):
    store = make_store(disk_bytes=4 * SIZE)
    outcomes = await asyncio.gather(*(pull(store, n) for n in range(10)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, StorageExhaustedError)]
    assert len(refused) == 6
    assert len(store.known()) == 4
    assert store._cache._reserved == 0


async def test_what_archives_unpack_to_counts_until_it_is_removed(make_store, pull, web, settings):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("f")
        info.size = 3 * SIZE
        archive.addfile(info, io.BytesIO(bytes(3 * SIZE)))
    web.files["/a.tgz"] = File(buffer.getvalue())
    request = ask("archive", "a.tgz", type="http", url=web.url)
    store = make_store(disk_bytes=int(3.5 * SIZE))
    assert (await store.pull(request)).disk_bytes == 3 * SIZE
    with pytest.raises(StorageExhaustedError):
        await pull(store, 0)
    reopened = make_store(disk_bytes=int(3.5 * SIZE))
    with pytest.raises(StorageExhaustedError):
        await pull(reopened, 0)
    await reopened.remove("archive")
    await pull(reopened, 0)
    with pytest.raises(StorageExhaustedError):
        await reopened.pull(request)
    assert reopened.known() == {"m0"}


async def test_cached_files_cannot_be_changed_through_a_model(store, pull):
    pulled = await pull(store, 0)
    assert pulled.path.stat().st_mode & 0o222 == 0


async def test_a_file_that_vanished_from_the_cache_is_downloaded_again(store, pull, settings, web):
    await pull(store, 0)
    for file in (settings.root_dir / "_cache" / "objects").iterdir():
        file.unlink()
    assert (await pull(store, 0, "other")).path.read_bytes() == bytes(SIZE)
    assert len(web.downloads("/0")) == 2


async def test_a_file_is_not_dropped_while_it_is_being_linked(make_store, pull, settings, web, monkeypatch):
    """Another pull trims the cache at that very moment, when no model uses the file yet."""
    store = make_store(cache_bytes=0)
    link = RemotePuller._link

    def trimmed(puller, items, keys, target):
        puller._cache.trim()
        link(puller, items, keys, target)

    monkeypatch.setattr(RemotePuller, "_link", trimmed)
    pulled = await pull(store, 1)
    assert pulled.path.read_bytes() == bytes([1]) * SIZE
    assert len(web.downloads("/1")) == 1
    assert cached(settings) == [1]
