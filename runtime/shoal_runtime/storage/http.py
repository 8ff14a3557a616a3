"""Models on a web server. A model is one file, or one archive that stands for a folder.

The first byte is asked for before the download: this tells the size, the version and the right to read with one small
request that, unlike HEAD, every server answers as it answers the real one.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from shoal_runtime.storage.config import StorageConfig
from shoal_runtime.storage.errors import (
    ArtifactNotFoundError,
    InvalidStorageError,
    StorageDeniedError,
    StorageError,
    StorageUnavailableError,
)
from shoal_runtime.storage.reaching import cause, untrusted
from shoal_runtime.storage.remote import CHUNK_BYTES, Body, ObjectChangedError, RemoteObject, trust
from shoal_runtime.storage.settings import StorageSettings

# It logs every request's URL, whose query may hold a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)
MAX_REDIRECTS = 5
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")
_COMPRESSED = (".gz", ".tgz")


class HttpStore:
    """A `RemoteStore` for `http` configurations."""

    unpacks = True

    def __init__(self, client: httpx.AsyncClient, url: str, headers: Mapping[str, str], source: str) -> None:
        self.identity = url
        self._client = client
        self._url = url
        self._headers = headers
        self._source = source
        self._users = 0

    @asynccontextmanager
    async def keep(self) -> AsyncIterator[None]:
        """See `RemoteStore.keep`."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                await self._client.aclose()

    async def find(self, path: str) -> list[RemoteObject]:
        """See `RemoteStore.find`."""
        async with self._get(path, {"Range": "bytes=0-0"}, (200, 206, 416)) as answer:
            size = _total(answer)
            if answer.status_code == 416 and size != 0:
                raise StorageUnavailableError(f"{self._name(path)} refuses to send its first byte")
            return [RemoteObject(path, "", size, _strong(answer.headers.get("ETag")))]

    @asynccontextmanager
    async def read(self, item: RemoteObject, offset: int) -> AsyncIterator[Body]:
        """See `RemoteStore.read`."""
        extra = {"Range": f"bytes={offset}-", "If-Range": item.version} if offset and item.version else {}
        async with self._get(item.key, extra, (200, 206) if extra else (200,)) as answer:
            if item.version is not None and _strong(answer.headers.get("ETag")) != item.version:
                raise ObjectChangedError(f"{self._name(item.key)} changed while it was downloaded; load it again")
            start = 0
            if answer.status_code == 206:
                found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
                if found is None or found[1] != str(offset):
                    raise StorageUnavailableError(f"{self._name(item.key)} sent another range than was asked for")
                start = offset
            size = _total(answer)
            if size is None and answer.headers.get("Transfer-Encoding", "").lower() != "chunked":
                raise InvalidStorageError(f"{self._name(item.key)} has no Content-Length: it could be cut unnoticed")
            encoding = answer.headers.get("Content-Encoding", "identity")
            if encoding != "identity" and not item.key.endswith(_COMPRESSED):
                raise InvalidStorageError(f"{self._name(item.key)} has Content-Encoding {encoding}; switch it off")
            yield Body(start, size, self._chunks(answer, item.key), *_digests(answer.headers))

    async def _chunks(self, answer: httpx.Response, path: str) -> AsyncIterator[bytes]:
        buffer = bytearray()
        failure: StorageUnavailableError | None = None
        try:
            async for piece in answer.aiter_raw():
                buffer += piece
                if len(buffer) >= CHUNK_BYTES:
                    yield bytes(buffer)
                    buffer.clear()
        except (httpx.TransportError, ssl.SSLError) as error:
            failure = StorageUnavailableError(f"{self._name(path)} broke off: {cause(error)}")
        if buffer:
            yield bytes(buffer)  # What came before the break need not come again.
        if failure is not None:
            raise failure

    @asynccontextmanager
    async def _get(self, path: str, extra: Mapping[str, str], wanted: tuple[int, ...]) -> AsyncIterator[httpx.Response]:
        url = httpx.URL(_join(self._url, path))
        origin = (url.scheme, url.host, url.port)
        for _ in range(MAX_REDIRECTS + 1):
            # Credentials are for the configured server only, not for one it redirects to.
            own = self._headers if (url.scheme, url.host, url.port) == origin else {}
            request = self._client.build_request("GET", url, headers={"Accept-Encoding": "identity", **own, **extra})
            try:
                answer = await self._client.send(request, stream=True)
            # With TLS 1.3 a server refuses a client certificate after the handshake; httpx lets that through as it is.
            except (httpx.TransportError, httpx.InvalidURL, ssl.SSLError) as error:
                raise self._failure(path, error) from None
            try:
                if answer.has_redirect_location:
                    url = url.join(answer.headers["Location"])
                    continue
                if answer.status_code not in wanted:
                    raise _refusal(answer.status_code, self._name(path))
                yield answer
                return
            finally:
                await answer.aclose()
        raise InvalidStorageError(f"{self._name(path)} redirects more than {MAX_REDIRECTS} times")

    def _failure(self, path: str, error: Exception) -> StorageError:
        if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
            return InvalidStorageError(f"{self._source}: field 'url' or a redirect is no http or https URL")
        kind = InvalidStorageError if untrusted(error) else StorageUnavailableError
        return kind(f"{self._name(path)} does not answer: {cause(error)}")

    def _name(self, path: str) -> str:
        """The file, as errors name it: without user, password and query."""
        parts = urlsplit(_join(self._url, path))
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))


@asynccontextmanager
async def open_http(config: StorageConfig, settings: StorageSettings) -> AsyncIterator[HttpStore]:
    """The web server an `http` configuration names.

    Raises:
        InvalidStorageError: a field is missing or malformed.
    """
    url = config.required("url")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise config.wrong("url", "must be an http or https URL with a host")
    certificate, key = config.text("client_certificate"), config.text("client_key")
    if (certificate is None) != (key is None):
        raise config.wrong("client_key" if key is None else "client_certificate", "is missing; set both or neither")
    context = _context(config.text("certificate"), certificate, key, config.source)
    timeout = httpx.Timeout(settings.read_seconds, connect=settings.connect_seconds)
    headers = _headers(config)
    client = httpx.AsyncClient(verify=context, timeout=timeout, follow_redirects=False)
    store = HttpStore(client, url, headers, config.source)
    async with store.keep():
        yield store


@lru_cache(maxsize=16)
def _context(authority: str | None, certificate: str | None, key: str | None, source: str) -> ssl.SSLContext:
    context = trust(authority, source)
    if certificate is not None and key is not None:
        # OpenSSL reads keys from files only; this one never is on a disk.
        file = os.memfd_create("client", os.MFD_CLOEXEC)
        try:
            os.write(file, f"{certificate}\n{key}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{file}")
        except (ssl.SSLError, OSError):
            raise InvalidStorageError(
                f"{source}: fields 'client_certificate' and 'client_key' are no PEM pair"
            ) from None
        finally:
            os.close(file)
    return context


def _headers(config: StorageConfig) -> dict[str, str]:
    headers = config.values.get("headers", {})
    if not isinstance(headers, dict):
        raise config.wrong("headers", "must be an object of strings or lists of strings")
    result = {}
    for name, value in headers.items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) and entry.isprintable() and entry.isascii() for entry in values):
            raise config.wrong(f"headers.{name}", "must be a printable string, or a list of them")
        result[name] = ", ".join(values)
    return result


def _join(url: str, path: str) -> str:
    parts = urlsplit(url)
    joined = "/".join(part for part in (parts.path.rstrip("/"), quote(path)) if part)
    return urlunsplit((parts.scheme, parts.netloc, joined, parts.query, ""))


def _refusal(status: int, name: str) -> StorageError:
    if status in (401, 403):
        return StorageDeniedError(f"{name} answered {status}: check the headers or client certificate of its entry")
    if status in (404, 410):
        return ArtifactNotFoundError(f"{name} answered {status}: check storage.path, and field 'url' of its entry")
    if status in (408, 412, 425, 429) or status >= 500:
        return StorageUnavailableError(f"{name} answered {status}: look into the log of that server, then load again")
    return InvalidStorageError(f"{name} answered {status}, which is not how a file is served")


def _total(answer: httpx.Response) -> int | None:
    """Size of the whole file, as far as an answer tells."""
    if answer.status_code in (206, 416):
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        return int(found[2]) if found else None
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _strong(etag: str | None) -> str | None:
    """An ETag that promises the same bytes; a weak one promises less."""
    return etag if etag and not etag.startswith("W/") else None


def _digests(headers: httpx.Headers) -> tuple[str | None, str | None]:
    """MD5 and SHA-256 of the file, if the server tells (`Content-MD5`; `Repr-Digest`, RFC 9530; `Digest`, RFC 3230)."""
    found = re.search(r"sha-256=:?([A-Za-z0-9+/=]+)", headers.get("Repr-Digest") or headers.get("Digest", ""), re.I)
    return _hex(headers.get("Content-MD5")), _hex(found[1] if found else None)


def _hex(text: str | None) -> str | None:
    try:
        return base64.b64decode(text, validate=True).hex() if text else None
    except (binascii.Error, ValueError):
        return None
