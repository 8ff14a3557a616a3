"""Models in S3 and what speaks its protocol (MinIO, Ceph, ...), through the `minio` client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import lru_cache
from http import HTTPStatus
from itertools import islice
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from shoal_runtime.storage.config import StorageConfig
from shoal_runtime.storage.errors import (
    ArtifactNotFoundError,
    InvalidStorageError,
    StorageDeniedError,
    StorageError,
    StorageUnavailableError,
)
from shoal_runtime.storage.nearby import LOOKED_AT, alike, instead
from shoal_runtime.storage.paths import clean
from shoal_runtime.storage.reaching import cause, untrusted
from shoal_runtime.storage.remote import CHUNK_BYTES, Body, ObjectChangedError, RemoteObject, trust
from shoal_runtime.storage.settings import StorageSettings

_SERVER_ERRORS = 500
_LOOKED_UP = 8
"""Most folders of a path that are looked at to say which part of it is not there."""
_DENIALS = {
    "InvalidAccessKeyId": "field 'access_key_id' of {} is not known there; correct it",
    "XAdminUserNotFound": "field 'access_key_id' of {} is not known there; correct it",  # versitygw's word for it
    "SignatureDoesNotMatch": "field 'secret_access_key' of {} is wrong, or does not belong to 'access_key_id'",
    "ExpiredToken": "the credentials of {} have expired; renew them",
    "RequestTimeTooSkewed": "the clocks of this machine and of the store differ; set them",
}
"""What to mend for a refusal; `{}` is the storage entry."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_T = TypeVar("_T")


class S3Store:
    """A `RemoteStore` for `s3` configurations."""

    unpacks = False

    def __init__(
        self, client: Minio, bucket: str, endpoint: str, source: str, threads: ThreadPoolExecutor, max_files: int
    ) -> None:
        self.identity = f"s3|{endpoint.replace('://', '|')}|{bucket}"
        self._client = client
        self._bucket = bucket
        self._endpoint = endpoint
        self._source = source
        self._threads = threads
        self._max_files = max_files

    def keep(self) -> AbstractAsyncContextManager[None]:
        """See `RemoteStore.keep`. The connections are shared by all stores of one configuration and stay."""
        return nullcontext()

    async def find(self, path: str) -> list[RemoteObject]:
        """See `RemoteStore.find`. An object of that very name is the model; else all objects below it are."""
        return await self._blocking(lambda: self._find(path))

    @asynccontextmanager
    async def read(self, item: RemoteObject, offset: int) -> AsyncIterator[Body]:
        """See `RemoteStore.read`."""
        match = {"If-Match": f'"{item.version}"'} if item.version else {}
        answer = await self._blocking(lambda: self._start(item, offset, match))
        try:
            size = answer.headers.get("Content-Length", "")
            total = offset + int(size) if size.isdigit() else None
            yield Body(offset, total, self._chunks(answer, item.key), md5=_plain_md5(answer.headers))
        finally:
            answer.close()
            answer.release_conn()

    def _start(self, item: RemoteObject, offset: int, match: dict[str, str]) -> urllib3.BaseHTTPResponse:
        with self._told(item.key):
            return self._client.get_object(
                bucket_name=self._bucket, object_name=item.key, offset=offset, request_headers=dict(match)
            )

    async def _chunks(self, answer: urllib3.BaseHTTPResponse, key: str) -> AsyncIterator[bytes]:
        def read() -> bytes:
            with self._told(key):
                return answer.read(CHUNK_BYTES)

        while chunk := await self._blocking(read):
            yield chunk

    def _find(self, path: str) -> list[RemoteObject]:
        if path:
            try:
                with self._told(path):
                    found = self._client.stat_object(bucket_name=self._bucket, object_name=path)
                return [RemoteObject(path, "", found.size, found.etag)]
            except ArtifactNotFoundError:
                pass
            except (StorageDeniedError, InvalidStorageError):
                # The answer to a HEAD has no body to say why. That of a listing has.
                with self._told(path):
                    next(iter(self._client.list_objects(bucket_name=self._bucket, prefix=path)), None)
                raise
        prefix = f"{path}/" if path else ""
        objects: list[RemoteObject] = []
        with self._told(path):
            for found in self._client.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True):
                key = found.object_name or ""
                if key.endswith("/"):
                    continue  # A marker that consoles make for an empty folder.
                if len(objects) == self._max_files:
                    raise InvalidStorageError(f"{self._name(path)} has more than {self._max_files} objects")
                objects.append(RemoteObject(key, _local_name(key, prefix), found.size, found.etag))
        if not objects:
            raise ArtifactNotFoundError(
                f"{self._name(path)} does not exist at {self._endpoint}. {self._instead(path)} Correct storage.path"
            )
        return objects

    def _instead(self, path: str) -> str:
        """What is there in place of the first part of a path that is not."""
        parts = path.split("/")
        try:
            for depth in reversed(range(min(len(parts), _LOOKED_UP))):
                prefix = "".join(f"{part}/" for part in parts[:depth])
                found = self._client.list_objects(bucket_name=self._bucket, prefix=prefix)
                names = [(each.object_name or "").removeprefix(prefix).rstrip("/") for each in islice(found, LOOKED_AT)]
                if names or not depth:
                    return instead(parts[depth], names, self._name(prefix))
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError):
            pass
        return "What is there may not be listed."

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Turn the client's errors into this package's."""
        name = self._name(key)
        try:
            yield
        except S3Error as error:
            raise self._refusal(name, error) from None
        except ServerError as error:
            raise StorageUnavailableError(f"{name}: {self._endpoint} answered {error.status_code}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            kind = InvalidStorageError if untrusted(error) else StorageUnavailableError
            raise kind(f"{name}: {self._endpoint} does not answer: {cause(error)}") from None
        except InvalidResponseError as error:
            raise StorageUnavailableError(
                f"{name}: {self._endpoint} does not answer as S3 does; check endpoint_url ({type(error).__name__})"
            ) from None
        except (MinioException, ValueError) as error:
            why = error if isinstance(error, ValueError) else type(error).__name__
            raise InvalidStorageError(f"{name} cannot be asked for: {why}; correct bucket or path") from None

    def _refusal(self, name: str, error: S3Error) -> StorageError:
        code, status = error.code or "", error.response.status
        if code == "NoSuchBucket":
            return ArtifactNotFoundError(
                f"bucket {self._bucket!r} does not exist at {self._endpoint}. {self._buckets()}"
                f"Correct field 'bucket' of {self._source}, or storage.parameters.bucket"
            )
        if status == HTTPStatus.NOT_FOUND and code not in _DENIALS:
            return ArtifactNotFoundError(f"{name} does not exist ({code}); check storage.path and the bucket")
        if code in _DENIALS or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            fix = _DENIALS.get(code, "let these credentials read and list the bucket").format(self._source)
            return StorageDeniedError(f"{name} may not be read at {self._endpoint} ({code}); {fix}")
        if status == HTTPStatus.PRECONDITION_FAILED:
            return ObjectChangedError(f"{name} changed while it was downloaded; load it again")
        if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= _SERVER_ERRORS:
            return StorageUnavailableError(f"{name}: {self._endpoint} answered {status} ({code})")
        return InvalidStorageError(
            f"{name}: {self._endpoint} answered {code}: {error.message}; check endpoint_url, region and bucket"
        )

    def _buckets(self) -> str:
        """Which buckets are called alike, if the credentials may know."""
        try:
            names = [bucket.name for bucket in self._client.list_buckets() or ()]
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError):
            return ""
        return "".join(f"Is {name!r} meant? " for name in alike(self._bucket, names))

    async def _blocking(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _name(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


def open_s3(config: StorageConfig, settings: StorageSettings, threads: ThreadPoolExecutor) -> S3Store:
    """The bucket an `s3` configuration names. Without both credentials access is anonymous.

    Raises:
        InvalidStorageError: a field is missing or malformed.
    """
    endpoint = config.required("endpoint_url")
    bucket = config.required("bucket")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.username:
        raise config.wrong("endpoint_url", "must be like https://host:port, without path and user")
    access, secret = config.text("access_key_id"), config.text("secret_access_key")
    if (access is None) != (secret is None):
        missing = "access_key_id" if access is None else "secret_access_key"
        raise config.wrong(missing, "is missing; set both credentials, or neither for a public bucket")
    pool = _pool(config.text("certificate"), config.source, settings.connect_seconds, settings.read_seconds)
    region = config.text("region")
    try:
        client = Minio(
            endpoint=parts.netloc,
            access_key=access,
            secret_key=secret,
            secure=parts.scheme == "https",
            region=region,
            http_client=pool,
        )
    except ValueError:
        raise config.wrong("endpoint_url", "or field 'region' is malformed") from None
    client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return S3Store(client, bucket, f"{parts.scheme}://{parts.netloc}", config.source, threads, settings.max_files)


@lru_cache(maxsize=16)
def _pool(certificate: str | None, source: str, connect: float, read: float) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        maxsize=16,
        timeout=urllib3.Timeout(connect=connect, read=read),
        retries=False,  # The downloader retries, and knows what has arrived already.
        ssl_context=trust(certificate, source),
    )


def _local_name(key: str, prefix: str) -> str:
    name = key[len(prefix) :]
    if clean(name, "object key") != name:
        raise InvalidStorageError(f"object key {key!r} is not a file path; rename the object")
    return name


def _plain_md5(headers: Mapping[str, str]) -> str | None:
    """The ETag where it is the content's MD5: not for multipart uploads, nor with most encryption at rest."""
    etag = headers.get("ETag", "").strip('"')
    encrypted = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    encrypted |= "x-amz-server-side-encryption-customer-algorithm" in headers
    return etag if _MD5.fullmatch(etag) and not encrypted else None
