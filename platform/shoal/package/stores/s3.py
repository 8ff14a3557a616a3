"""Packages in a bucket of S3 or of what speaks its protocol, through the `minio` client.

A file of the payload is uploaded unconditionally, since its content is fixed by the package's digest; the
manifest is created by `If-None-Match: *`, so of many publishers one wins.
"""

from __future__ import annotations

import hashlib
import io
import os
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, cast
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from shoal.package.errors import InvalidPackage, PackageNotFound, StoreUnavailable, TamperedPackage
from shoal.package.manifest import FileRef
from shoal.package.names import file_path
from shoal.package.stores.local import open_plain
from shoal.package.stores.protocol import CHUNK_BYTES, StoreAddress, StoreEntry

_CONNECTIONS: Final = 8
_LINK_LIFE: Final = timedelta(minutes=5)
_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 60.0
_PART_BYTES: Final = 16 * 1024 * 1024


class S3PackageStore:
    """A `Store`. `key` is the entry of the `storage-config` Secret by which runtime pods reach the bucket.

    Args:
        client: must address the bucket by path or by host as the server wants it.
        http: the pool for conditional writes, which the client has no call for; by default it trusts what browsers do.
    """

    def __init__(
        self,
        client: Minio,
        bucket: str,
        *,
        prefix: str = "",
        key: str | None = None,
        http: urllib3.PoolManager | None = None,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = file_path(prefix.strip("/"), "prefix") + "/" if prefix.strip("/") else ""
        self._key = key
        self._http = http or _pool(None)

    def read(self, path: str, limit: int) -> bytes:
        """See `Store.read`."""
        data = b""
        with self.chunks(path) as chunks:
            for chunk in chunks:
                data += chunk
                if len(data) > limit:
                    raise InvalidPackage(f"{path} is larger than {limit} bytes")
        return data

    def chunks(self, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """See `Store.chunks`."""
        return self._chunks(path)

    @contextmanager
    def _chunks(self, path: str) -> Iterator[Iterator[bytes]]:
        name = self._name(path)
        with self._translated(path):
            answer = self._client.get_object(bucket_name=self._bucket, object_name=name)
        try:
            yield self._parts(answer, path)
        finally:
            answer.close()
            answer.release_conn()

    def _parts(self, answer: urllib3.BaseHTTPResponse, path: str) -> Iterator[bytes]:
        with self._translated(path):
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk

    def files(self, folder: str, limit: int) -> list[StoreEntry]:
        """See `Store.files`."""
        found: list[StoreEntry] = []
        with self._translated(folder):
            listed = self._client.list_objects(
                bucket_name=self._bucket, prefix=self._name(folder) + "/" if folder else self._prefix, recursive=True
            )
            for item in listed:
                path = (item.object_name or "").removeprefix(self._prefix)
                if path.endswith("/"):
                    continue  # A marker that consoles make for an empty folder.
                if len(found) >= limit:
                    raise InvalidPackage(f"there are more than {limit} files")
                found.append(StoreEntry(path, item.size or 0, item.etag or ""))
        return sorted(found, key=lambda entry: entry.path)

    def folders(self, folder: str) -> list[str]:
        """See `Store.folders`."""
        top = self._name(folder) + "/" if folder else self._prefix
        with self._translated(folder):
            listed = self._client.list_objects(bucket_name=self._bucket, prefix=top)
            names = (item.object_name or "" for item in listed if item.is_dir)
            return sorted(name.removeprefix(top).rstrip("/") for name in names)

    def upload(self, path: str, source: Path, expected: FileRef) -> None:
        """See `Store.upload`."""
        with _opened(source) as file:
            checked = _Checked(file, source, expected)
            checked.require_size()
            with self._translated(path):
                self._client.put_object(
                    bucket_name=self._bucket,
                    object_name=self._name(path),
                    data=cast(io.BufferedReader, checked),
                    length=expected.size,
                    part_size=_PART_BYTES,
                    num_parallel_uploads=1,
                )
            checked.finish()

    def write(self, path: str, data: bytes) -> None:
        """See `Store.write`."""
        with self._translated(path):
            self._client.put_object(
                bucket_name=self._bucket, object_name=self._name(path), data=io.BytesIO(data), length=len(data)
            )

    def create(self, path: str, data: bytes) -> bool:
        """See `Store.create`."""
        with self._translated(path):
            url = self._client.get_presigned_url("PUT", self._bucket, self._name(path), expires=_LINK_LIFE)
            answer = self._http.request("PUT", url, body=data, headers={"If-None-Match": "*"}, retries=False)
        if answer.status == 412:
            return False
        if answer.status == 409:  # Another writer is just creating it; S3 asks to try again.
            raise StoreUnavailable(f"{self._uri(path)} is being written by somebody else; try again")
        if answer.status == 501:
            raise StoreUnavailable(f"{self._uri(path)}: this store has no conditional writes, which publishing needs")
        if answer.status >= 300:
            raise StoreUnavailable(f"{self._uri(path)}: the store answered {answer.status}; check the credentials")
        return True

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        with self._translated(path):
            self._client.remove_object(bucket_name=self._bucket, object_name=self._name(path))

    def delete_folder(self, folder: str) -> None:
        """See `Store.delete_folder`."""
        with self._translated(folder):
            top = self._name(folder) + "/"
            listed = self._client.list_objects(bucket_name=self._bucket, prefix=top, recursive=True)
            for item in listed:
                self._client.remove_object(bucket_name=self._bucket, object_name=item.object_name or "")

    def address(self, path: str) -> StoreAddress:
        """See `Store.address`."""
        parameters = {"bucket": self._bucket} if self._key else {"type": "s3", "bucket": self._bucket}
        return StoreAddress(self._uri(path), self._name(path), self._key, parameters)

    def _name(self, path: str) -> str:
        return self._prefix + file_path(path)

    def _uri(self, path: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{path}"

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchObject"):
                raise PackageNotFound(f"{self._uri(path)} does not exist") from None
            raise StoreUnavailable(f"{self._uri(path)}: the store answered {error.code}{_fix(error.code)}") from None
        except ServerError as error:
            raise StoreUnavailable(f"{self._uri(path)}: the store answered {error.status_code}") from None
        except (InvalidResponseError, urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailable(f"{self._uri(path)}: {_place(error)} does not answer; check its address") from None
        except (MinioException, ValueError) as error:
            raise InvalidPackage(f"{self._uri(path)} cannot be asked for: {error}") from None


def open_s3(
    endpoint: str,
    bucket: str,
    *,
    access_key: str | None = None,
    secret_key: str | None = None,
    region: str | None = None,
    certificate: str | None = None,
    prefix: str = "",
    key: str | None = None,
) -> S3PackageStore:
    """A bucket by its address. `certificate` is PEM of an authority to trust; without credentials access is anonymous.

    Raises:
        InvalidPackage: the address is malformed.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.username:
        raise InvalidPackage("the store's endpoint must be like https://host:port, without path and user")
    pool = _pool(certificate)
    try:
        client = Minio(
            endpoint=parts.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=parts.scheme == "https",
            region=region,
            http_client=pool,
        )
    except ValueError as error:
        raise InvalidPackage(f"the store's endpoint or region is malformed: {error}") from None
    client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return S3PackageStore(client, bucket, prefix=prefix, key=key, http=pool)


def _opened(source: Path) -> BinaryIO:
    try:
        return open_plain(source)
    except OSError as error:
        raise InvalidPackage(f"{source} cannot be read: {error.strerror}") from None


class _Checked:
    """A file that is hashed while the client reads it."""

    def __init__(self, file: BinaryIO, source: Path, expected: FileRef) -> None:
        self._file = file
        self._source = source
        self._expected = expected
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, size: int = -1) -> bytes:
        """Part of it."""
        data = self._file.read(size)
        self._digest.update(data)
        self._size += len(data)
        return data

    def require_size(self) -> None:
        """Refuse a file of another size before anything of it is sent."""
        if os.fstat(self._file.fileno()).st_size != self._expected.size:
            self._refuse()

    def finish(self) -> None:
        """Refuse what was not expected; the caller has not committed anything yet."""
        if (self._digest.hexdigest(), self._size) != (self._expected.sha256, self._expected.size):
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise TamperedPackage(f"{self._source} changed after the package was built; build it again")


def _pool(certificate: str | None) -> urllib3.PoolManager:
    context = ssl.create_default_context(cafile=certifi.where())
    if certificate:
        try:
            context.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError):
            raise InvalidPackage("the store's certificate is not PEM") from None
    return urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
        ssl_context=context,
    )


def _place(error: Exception) -> str:
    pool = getattr(error, "pool", None)
    return f"{pool.scheme}://{pool.host}:{pool.port}" if pool is not None else "the store"


def _fix(code: str | None) -> str:
    if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return "; check the credentials"
    return "; make the bucket first" if code == "NoSuchBucket" else ""
