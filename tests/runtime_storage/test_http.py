"""Pulling from a real web server that cuts, lies, stalls and refuses."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import ssl
import tarfile
import threading

import pytest

from shoal_runtime.storage import (
    ArtifactNotFoundError,
    InvalidStorageError,
    StorageDeniedError,
    StorageExhaustedError,
    StorageUnavailableError,
)
from support.runtime_storage import FaultyServer, File, ask, md5_base64, put_entry, sha256_base64, tree
from waiting import until

pytestmark = pytest.mark.server
CONTENT = os.urandom(3_000_000)


def web_ask(web, model_id="m", path="models/m.joblib", **params):
    return ask(model_id, path, type="http", url=web.url, **params)


def leftovers(settings):
    """Files of the cache that are no finished objects."""
    cache = settings.root_dir / "_cache"
    return [file for part in ("partial", "staging") for file in (cache / part).iterdir()]


async def test_a_file_is_pulled_under_its_own_name(store, web, settings):
    web.files["/models/m.joblib"] = File(CONTENT)
    pulled = await store.pull(web_ask(web))
    assert pulled.path == settings.root_dir / "m" / "m.joblib"
    assert pulled.path.read_bytes() == CONTENT
    assert pulled.disk_bytes == len(CONTENT)
    assert store.known() == {"m"}
    assert leftovers(settings) == []


async def test_the_url_keeps_its_path_and_query_and_the_path_is_quoted(store, web):
    web.files["/base/a%20b/m%C3%A9.bin?sig=x%2F1"] = File(b"content")
    pulled = await store.pull(ask("m", "/a b/mé.bin", type="http", url=f"{web.url}/base/?sig=x%2F1"))
    assert pulled.path.read_bytes() == b"content"


async def test_a_schema_is_pulled_too_and_renamed_if_it_must_be(store, web, settings):
    web.files |= {"/a/m": File(b"model"), "/b/m": File(b"schema"), "/b/s.json": File(b"other")}
    pulled = await store.pull(ask("m", "a/m", "b/m", type="http", url=web.url))
    assert pulled.schema_path == settings.root_dir / "m" / "_schema.json"
    assert (pulled.path.read_bytes(), pulled.schema_path.read_bytes()) == (b"model", b"schema")
    assert pulled.disk_bytes == len(b"model")
    pulled = await store.pull(ask("m", "a/m", "b/s.json", type="http", url=web.url))
    assert tree(settings.root_dir / "m") == {"m": b"model", "s.json": b"other"}


async def test_an_empty_file_is_a_file(store, web):
    web.files["/models/m.joblib"] = File(b"")
    assert (await store.pull(web_ask(web))).path.read_bytes() == b""


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_cut_download_goes_on_where_it_broke_off(store, web, chunked):
    file = web.files["/models/m.joblib"] = File(CONTENT, cut_after=1_300_000, cuts=2, chunked=chunked)
    assert (await store.pull(web_ask(web))).path.read_bytes() == CONTENT
    ranges = [headers.get("range") for headers in web.downloads("/models/m.joblib")]
    assert len(ranges) == 3
    assert ranges[0] is None
    assert all(asked and asked != "bytes=0-" for asked in ranges[1:])
    assert all(headers["if-range"] == file.tag() for headers in web.downloads("/models/m.joblib")[1:])


@pytest.mark.parametrize("file", [File(CONTENT, ranges=False), File(CONTENT, etag=None), File(CONTENT, etag='W/"1"')])
async def test_without_ranges_or_a_strong_etag_a_cut_download_starts_anew(store, web, file):
    file.cut_after, file.cuts = 1_300_000, 1
    web.files["/models/m.joblib"] = file
    assert (await store.pull(web_ask(web))).path.read_bytes() == CONTENT


async def test_progress_is_kept_for_the_next_pull(store, web):
    file = web.files["/models/m.joblib"] = File(CONTENT, cut_after=1_300_000, cuts=1, failures=0)
    file.failures = 0
    request = web_ask(web)
    first = asyncio.create_task(store.pull(request))
    await until(lambda: not file.cuts)
    file.failures = 100
    with pytest.raises(StorageUnavailableError, match="answered 500"):
        await first
    file.failures = 0
    seen = len(web.requests)
    assert (await store.pull(request)).path.read_bytes() == CONTENT
    asked = [headers.get("range") for _, headers in web.requests[seen:]]
    assert asked[0] == "bytes=0-0"
    assert len(asked) == 2
    assert asked[1] not in (None, "bytes=0-")


async def test_endless_cuts_fail_as_unavailable(store, web, settings):
    web.files["/models/m.joblib"] = File(CONTENT, etag=None, cut_after=10, cuts=1000)
    with pytest.raises(StorageUnavailableError):
        await store.pull(web_ask(web))
    assert store.known() == set()
    assert leftovers(settings) == []


async def test_a_body_whose_end_cannot_be_known_is_refused(store, web):
    web.files["/models/m.joblib"] = File(CONTENT, length=False)
    with pytest.raises(InvalidStorageError, match="no Content-Length"):
        await store.pull(web_ask(web))


async def test_a_compressed_answer_is_refused(store, web):
    web.files["/models/m.joblib"] = File(CONTENT, headers={"Content-Encoding": "gzip"})
    with pytest.raises(InvalidStorageError, match="Content-Encoding gzip"):
        await store.pull(web_ask(web))


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-MD5": md5_base64(CONTENT)},
        {"Repr-Digest": f"sha-256=:{sha256_base64(CONTENT)}:"},
        {"Digest": f"SHA-256={sha256_base64(CONTENT)}"},
    ],
)
async def test_a_wrong_checksum_is_noticed_and_the_file_pulled_again(store, web, headers):
    web.files["/models/m.joblib"] = File(CONTENT, headers=headers, corrupt=1)
    assert (await store.pull(web_ask(web))).path.read_bytes() == CONTENT
    assert len(web.downloads("/models/m.joblib")) == 2


async def test_a_checksum_that_stays_wrong_fails(store, web):
    web.files["/models/m.joblib"] = File(CONTENT, headers={"Content-MD5": md5_base64(b"another")})
    with pytest.raises(StorageUnavailableError, match="md5 of what arrived is wrong"):
        await store.pull(web_ask(web))


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_passing_failures_are_retried(store, web, status):
    web.files["/models/m.joblib"] = File(CONTENT, failures=2, fail_status=status)
    assert (await store.pull(web_ask(web))).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "error"), [(401, StorageDeniedError), (403, StorageDeniedError), (418, InvalidStorageError)]
)
async def test_refusals_are_not_retried(store, web, status, error):
    web.files["/models/m.joblib"] = File(CONTENT, failures=100, fail_status=status)
    with pytest.raises(error, match=str(status)):
        await store.pull(web_ask(web))
    assert len(web.downloads("/models/m.joblib")) == 1


async def test_a_missing_file_is_not_stored_as_a_model(store, web, settings):
    with pytest.raises(ArtifactNotFoundError, match="404"):
        await store.pull(web_ask(web))
    assert store.known() == set()
    assert leftovers(settings) == []


async def test_a_server_that_is_not_there_is_unavailable(store, web):
    url = web.url
    web.server.server_close()
    with pytest.raises(StorageUnavailableError) as told:
        await store.pull(ask("m", "x", type="http", url=url))
    assert str(told.value) == (
        f"{url}/x does not answer: nothing listens there; check host and port, and that the server runs"
    )
    with pytest.raises(StorageUnavailableError, match=r"no-such-host\.invalid/x does not answer: its host name is not"):
        await store.pull(ask("m", "x", type="http", url="http://no-such-host.invalid"))


async def test_a_stalled_server_is_given_up(make_store, web):
    web.files["/models/m.joblib"] = File(CONTENT, hold=threading.Event())
    with pytest.raises(StorageUnavailableError, match="broke off: it sent nothing for too long"):
        await make_store(read_seconds=0.2, attempts=1).pull(web_ask(web))


async def test_headers_go_to_the_server_but_not_where_it_redirects(store, web, settings):
    other = FaultyServer()
    try:
        other.files["/real"] = File(b"content")
        web.files["/models/m.joblib"] = File(b"", redirect=f"{other.url}/real")
        headers = {"Authorization": "Bearer tell-nobody", "X-Both": ["a", "b"]}
        put_entry(settings.config_dir, "web", {"type": "http", "url": web.url, "headers": headers})
        pulled = await store.pull(ask("m", "models/m.joblib", key="web"))
        assert pulled.path.read_bytes() == b"content"
        assert web.requests[0][1]["authorization"] == "Bearer tell-nobody"
        assert web.requests[0][1]["x-both"] == "a, b"
        assert all("authorization" not in headers for _, headers in other.requests)
    finally:
        other.close()


async def test_endless_redirects_are_refused(store, web):
    web.files["/models/m.joblib"] = File(b"", redirect="/models/m.joblib")
    with pytest.raises(InvalidStorageError, match="redirects more than 5 times"):
        await store.pull(web_ask(web))


async def test_secrets_of_a_url_are_not_shown(store, web, caplog):
    caplog.set_level("DEBUG")
    url = web.url.replace("http://", "http://user:passw0rd@") + "?token=s3cret"
    with pytest.raises(ArtifactNotFoundError) as caught:
        await store.pull(ask("m", "x", type="http", url=url))
    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__} {ask('m', 'x', url=url)!r} {caplog.text}"
    assert "s3cret" not in shown
    assert "passw0rd" not in shown


async def test_an_unchanged_file_is_downloaded_once(store, web):
    web.files["/models/m.joblib"] = File(CONTENT)
    await store.pull(web_ask(web, "one"))
    await store.remove("one")
    await store.pull(web_ask(web, "two"))
    await store.pull(web_ask(web, "two"))
    assert len(web.downloads("/models/m.joblib")) == 1
    web.files["/models/m.joblib"] = File(CONTENT + b"!")
    assert (await store.pull(web_ask(web, "two"))).path.read_bytes() == CONTENT + b"!"


async def test_models_that_want_the_same_file_at_once_share_the_download(store, web):
    web.files["/models/m.joblib"] = File(CONTENT)
    pulled = await asyncio.gather(*(store.pull(web_ask(web, f"m{n}")) for n in range(8)))
    assert {model.path.read_bytes() for model in pulled} == {CONTENT}
    assert len(web.downloads("/models/m.joblib")) == 1
    assert len({model.path.stat().st_ino for model in pulled}) == 1


async def test_a_cancelled_pull_leaves_nothing(store, web, settings):
    hold = threading.Event()
    web.files["/models/m.joblib"] = File(CONTENT, hold=hold)
    pull = asyncio.create_task(store.pull(web_ask(web)))
    await until(lambda: leftovers(settings) and web.downloads("/models/m.joblib"))
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert store.known() == set()
    assert leftovers(settings) == []
    hold.set()
    assert (await store.pull(web_ask(web))).path.read_bytes() == CONTENT


async def test_a_cancelled_pull_does_not_disturb_another_of_the_same_file(store, web):
    hold = threading.Event()
    web.files["/models/m.joblib"] = File(CONTENT, hold=hold)
    first, second = (asyncio.create_task(store.pull(web_ask(web, name))) for name in ("one", "two"))
    await until(lambda: len(web.requests) == 3)  # Two look at the file, one downloads it.
    (flight,) = store._remote._downloader._flights.values()
    await until(lambda: flight.waiting == 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hold.set()
    assert (await second).path.read_bytes() == CONTENT
    assert len(web.downloads("/models/m.joblib")) == 1


async def test_no_more_downloads_run_at_once_than_allowed(make_store, web):
    hold = threading.Event()
    for n in range(6):
        web.files[f"/{n}"] = File(bytes([n]) * 1000, hold=hold)
    store = make_store(max_downloads=2)
    pulls = [asyncio.create_task(store.pull(ask(f"m{n}", str(n), type="http", url=web.url))) for n in range(6)]

    def running():
        return sum(len(web.downloads(f"/{n}")) for n in range(6))

    await until(lambda: len(web.requests) >= 6 and running() >= 2)
    assert running() == 2
    hold.set()
    await asyncio.gather(*pulls)
    assert running() == 6


async def test_too_large_a_file_is_refused_before_its_download(make_store, web):
    web.files["/models/m.joblib"] = File(CONTENT)
    with pytest.raises(StorageExhaustedError, match=f"needs {len(CONTENT)} bytes .* and 1000000 are free"):
        await make_store(disk_bytes=1_000_000).pull(web_ask(web))
    assert web.downloads("/models/m.joblib") == []


async def test_a_file_of_unknown_size_stops_at_the_quota(make_store, web, settings):
    web.files["/models/m.joblib"] = File(CONTENT, ranges=False, chunked=True)
    with pytest.raises(StorageExhaustedError):
        await make_store(disk_bytes=1_500_000).pull(web_ask(web))
    assert leftovers(settings) == []


async def test_custom_authority_and_client_certificate(store, settings, pki):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki / "ca")
    context.load_cert_chain(pki / "crt", pki / "key")
    context.verify_mode = ssl.CERT_REQUIRED
    server = FaultyServer(context)
    try:
        server.files["/m"] = File(b"content")
        entry = {"type": "http", "url": server.url, "certificate": (pki / "ca").read_text()}
        put_entry(settings.config_dir, "no-client", entry)
        client = {"client_certificate": (pki / "crt").read_text(), "client_key": (pki / "key").read_text()}
        put_entry(settings.config_dir, "both", entry | client)
        put_entry(settings.config_dir, "no-authority", {"type": "http", "url": server.url, **client})
        assert (await store.pull(ask("m", "m", key="both"))).path.read_bytes() == b"content"
        with pytest.raises(StorageUnavailableError, match="does not answer: "):
            await store.pull(ask("m", "m", key="no-client"))
        with pytest.raises(InvalidStorageError, match="its certificate is not trusted"):
            await store.pull(ask("m", "m", key="no-authority"))
    finally:
        server.close()


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({}, "'url' is missing"),
        ({"url": "ftp://host"}, "'url' must be"),
        ({"url": 5}, "'url' must be a string"),
        ({"url": "http://h", "headers": "x"}, "'headers' must be an object"),
        ({"url": "http://h", "headers": {"A": "x\r\nB: y"}}, "'headers.A' must be"),
        ({"url": "http://h", "certificate": "nonsense"}, "'certificate' is not a PEM"),
        ({"url": "http://h", "client_key": "k"}, "'client_certificate' is missing"),
        ({"url": "http://h", "client_key": "k", "client_certificate": "c"}, "no PEM pair"),
    ],
)
async def test_wrong_fields_are_named(store, settings, entry, field):
    put_entry(settings.config_dir, "web", {"type": "http", **entry})
    with pytest.raises(InvalidStorageError, match=field) as caught:
        await store.pull(ask("m", "m", key="web"))
    assert "storage-config entry 'web'" in str(caught.value)


async def test_an_archive_stands_for_a_folder(store, web, settings):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in {"bundle/MLmodel": b"flavors", "bundle/data/empty": b""}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    web.files["/models/bundle.tar.gz"] = File(buffer.getvalue(), headers={"Content-Encoding": "gzip"})
    pulled = await store.pull(web_ask(web, path="models/bundle.tar.gz"))
    assert pulled.path == settings.root_dir / "m" / "bundle"
    assert tree(settings.root_dir / "m") == {"bundle/MLmodel": b"flavors", "bundle/data/empty": b""}
    assert pulled.disk_bytes == len(b"flavors")


async def test_content_is_checked_by_length_and_hash_of_many_random_cuts(store, web):
    content = os.urandom(200_000)
    digest = hashlib.sha256(content).hexdigest()
    for n in range(20):
        web.files[f"/{n}"] = File(content, cut_after=7919 * (n + 1), cuts=n % 4, etag=f'"{n}"')
    pulled = await asyncio.gather(*(store.pull(ask(f"m{n}", str(n), type="http", url=web.url)) for n in range(20)))
    assert {hashlib.sha256(model.path.read_bytes()).hexdigest() for model in pulled} == {digest}
