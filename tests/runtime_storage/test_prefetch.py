"""Files that are fetched before their model is pulled: none is fetched twice, and no pull is worse off for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from shoal_runtime.storage import ArtifactNotFoundError, StorageExhaustedError, StorageUnavailableError
from support.runtime_storage import File, ask
from waiting import until

pytestmark = pytest.mark.server
SIZE = 100_000


@pytest.fixture
def request_of(web):
    """A pull request for the file of a number, as a model of that number."""
    for n in range(5):
        web.files[f"/{n}"] = File(bytes([n]) * SIZE)
    return lambda n: ask(f"m{n}", str(n), type="http", url=web.url)


async def joined(store):
    """A pull waits for what a prefetch downloads."""
    await until(lambda: any(flight.waiting == 2 for flight in store._remote._downloader._flights.values()))


@contextlib.asynccontextmanager
async def prefetching(store, *requests):
    """Prefetches under way."""

    async def here():
        pass

    tasks = [asyncio.create_task(store.prefetch(request, here)) for request in requests]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@contextlib.asynccontextmanager
async def prefetched(store, request):
    """A model whose files are here."""
    here = asyncio.Event()

    async def say():
        here.set()

    task = asyncio.create_task(store.prefetch(request, say))
    said = asyncio.create_task(here.wait())
    await asyncio.wait([task, said], return_when=asyncio.FIRST_COMPLETED)
    try:
        if task.done():
            await task
        yield task
    finally:
        said.cancel()
        task.cancel()
        await asyncio.wait([task])


def stored(settings, folder="objects"):
    return list((settings.root_dir / "_cache" / folder).iterdir())


async def test_what_was_prefetched_is_not_fetched_again_and_is_no_model_before_it_is_pulled(store, web, request_of):
    async with prefetched(store, request_of(1)):
        assert store.known() == set()
        pulled = await store.pull(request_of(1))
    assert pulled.path.read_bytes() == bytes([1]) * SIZE
    assert pulled.disk_bytes == SIZE
    assert len(web.downloads("/1")) == 1


async def test_a_pull_waits_for_the_prefetch_under_way_and_outlives_it(store, web, request_of):
    hold = web.files["/1"].hold = threading.Event()
    async with prefetching(store, request_of(1)):
        await until(lambda: web.sent)
        pulling = asyncio.create_task(store.pull(request_of(1)))
        await joined(store)
    hold.set()
    assert (await pulling).path.read_bytes() == bytes([1]) * SIZE
    assert len(web.downloads("/1")) == 1


async def test_a_prefetch_that_is_given_up_leaves_no_part(store, web, request_of, settings):
    web.files["/1"].hold = threading.Event()
    async with prefetching(store, request_of(1)):
        await until(lambda: stored(settings, "partial"))
    assert stored(settings, "partial") == stored(settings) == []
    assert store._cache._reserved == 0


async def test_what_was_prefetched_is_kept_while_it_is_wanted_and_then_as_long_as_any(
    make_store, web, request_of, settings
):
    store = make_store(cache_bytes=0)
    async with prefetched(store, request_of(1)):
        await store.pull(request_of(2))
        await store.remove("m2")
        assert [file.read_bytes()[0] for file in stored(settings)] == [1]
    assert stored(settings) == []


async def test_nothing_is_prefetched_that_would_fill_the_disk(make_store, web, request_of, settings):
    store = make_store(disk_bytes=3 * SIZE, prefetch_reserve_bytes=2 * SIZE)
    async with prefetched(store, request_of(1)):
        with pytest.raises(StorageExhaustedError, match=f"2 needs {SIZE} bytes, and this pod's disk would be nearly"):
            async with prefetched(store, request_of(2)):
                pass
    assert web.downloads("/2") == []
    assert (await store.pull(request_of(2))).disk_bytes == SIZE


async def test_a_pull_takes_the_room_of_what_only_was_prefetched(make_store, web, request_of):
    store = make_store(disk_bytes=2 * SIZE, prefetch_reserve_bytes=1)
    web.files["/0"].content = bytes(SIZE // 2)
    web.files["/3"] = File(bytes(2 * SIZE))
    async with prefetched(store, request_of(0)) as task:
        assert (await store.pull(request_of(3))).disk_bytes == 2 * SIZE
        with pytest.raises(StorageExhaustedError, match="the room for m0 is needed for another model"):
            await task


async def test_a_pull_takes_the_room_of_a_prefetch_under_way_but_not_of_its_own(make_store, web, request_of):
    store = make_store(disk_bytes=2 * SIZE, prefetch_reserve_bytes=1)
    for n in (0, 3):
        web.files[f"/{n}"] = File(bytes(SIZE // 2), hold=threading.Event())
    async with prefetching(store, request_of(0), request_of(3)):
        await until(lambda: web.sent >= SIZE // 4)
        pulling = asyncio.create_task(store.pull(request_of(3)))
        await joined(store)
        await until(lambda: len(store._remote._downloader._flights) == 2)
        web.files["/1"].content = bytes(int(1.5 * SIZE))
        assert (await store.pull(request_of(1))).disk_bytes == int(1.5 * SIZE)
    web.files["/3"].hold.set()
    await pulling
    assert len(web.downloads("/3")) == 1


async def test_a_prefetch_that_fails_changes_nothing(store, web, request_of, settings):
    web.files["/1"].failures = settings.attempts
    with pytest.raises(StorageUnavailableError):
        async with prefetched(store, request_of(1)):
            pass
    assert (await store.pull(request_of(1))).disk_bytes == SIZE
    with pytest.raises(ArtifactNotFoundError):
        async with prefetched(store, ask("m", "missing", type="http", url=web.url)):
            pass


async def test_a_pull_that_joins_the_last_try_of_a_prefetch_tries_again(make_store, web, request_of):
    store = make_store(attempts=1)
    file = web.files["/1"]
    file.hold, file.cuts, file.cut_after = threading.Event(), 1, 0
    async with prefetching(store, request_of(1)) as (task,):
        await until(lambda: web.sent)
        pulling = asyncio.create_task(store.pull(request_of(1)))
        await joined(store)
        file.hold.set()
        with pytest.raises(StorageUnavailableError):
            await task
    assert (await pulling).path.read_bytes() == bytes([1]) * SIZE
    assert len(web.downloads("/1")) == 2


async def test_a_pull_finds_room_for_its_downloads_beside_prefetches(make_store, web, request_of):
    store = make_store(max_downloads=2, max_downloads_per_model=1)
    for n in (1, 2):
        web.files[f"/{n}"].hold = threading.Event()
    async with prefetching(store, request_of(1), request_of(2)):
        await until(lambda: web.sent >= SIZE // 2 and len(web.requests) == 3)
        assert (await store.pull(request_of(3))).disk_bytes == SIZE


async def test_what_no_pull_would_recognize_is_not_prefetched(store, web, request_of):
    web.files["/1"].etag = None
    async with prefetched(store, request_of(1)):
        await store.pull(request_of(1))
    assert len(web.downloads("/1")) == 1


async def test_what_is_at_hand_needs_no_prefetch(store, settings):
    (settings.pvc_dir / "claim").mkdir(parents=True)
    (settings.pvc_dir / "claim" / "model").write_bytes(b"1")
    async with prefetching(store, ask("m", "model", type="pvc", name="claim")) as (task,):
        await task
    assert store.known() == set()
