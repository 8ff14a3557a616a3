"""Which store and package a command means by a directory, `pvc://` or `s3://`, and the keys it works with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shoal.cli import session
from shoal.cli.errors import CliError, UsageProblem
from shoal.cluster.kube_client import SECRETS
from shoal.package.errors import PackageError, PackageNotFound
from shoal.package.keys import PRIVATE, PUBLIC, SigningKey, TrustedKeys, load_public, load_signing
from shoal.package.names import PAYLOAD, model_name
from shoal.package.package import Package, newest_digests, open_directory, published
from shoal.package.stores import LocalStore, PackageStore
from shoal.package.stores.s3 import open_s3
from shoal.resources.storage import S3Storage, entries_of

STORAGE_SECRET = "storage-config"


@dataclass(frozen=True, slots=True)
class Access:
    """By what stores are reached: the cluster a command is about, and an entry of its Secret `storage-config`."""

    target: session.SessionTarget
    storage_key: str | None = None


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of packages into the command's."""
    try:
        yield
    except PackageError as error:
        raise CliError(str(error)) from None


def open_store(access: Access, where: str) -> PackageStore:
    """The store a URL or directory names.

    Raises:
        CliError: it cannot be reached.
        PackageError: its name is wrong.
    """
    scheme, place, prefix = _parts(where)
    match scheme:
        case "" if place:
            return LocalStore(Path(place).absolute())
        case "pvc":
            return LocalStore(claim_directory(access, place), claim=place, prefix=prefix)
        case "s3":
            return _bucket(access, place, prefix)
    raise UsageProblem(f"{where} is no place for packages; name a directory, pvc://CLAIM or s3://BUCKET")


def find_package(access: Access, where: str) -> tuple[Package, str]:
    """The package a URL or directory names, and the model it is published for ("" if it is not).

    Raises:
        CliError: the store cannot be reached.
        PackageError: there is none.
    """
    scheme, place, path = _parts(where)
    if scheme == "":
        return open_directory(Path(place).absolute()), ""
    parts = path.removesuffix(f"/{PAYLOAD}").split("/")
    if len(parts) < 2:
        raise UsageProblem(f"{where} names no package; write {scheme}://{place}/MODEL/DIGEST")
    *prefix, model, digest = parts
    store = open_store(access, f"{scheme}://{place}/{'/'.join(prefix)}")
    try:
        return published(store, model_name(model), digest), model
    except PackageNotFound as error:
        there = ", ".join(newest_digests(store, model)) or "nothing"
        raise CliError(f"{error}; published of {model}: {there}") from None


def claim_directory(access: Access, claim: str) -> Path:
    """The directory that is a claim of the embedded cluster.

    Raises:
        CliError: there are none.
    """
    if not access.target.embedded:
        raise CliError("volumes of a real cluster cannot be written from here; publish to s3://")
    pvcs = access.target.layout.pvcs
    if not pvcs.is_dir():
        raise CliError(f"no cluster was started on {access.target.state_dir}; start it with `shoal up`")
    return pvcs / claim


def signing_key(access: Access, given: Path | None) -> SigningKey:
    """The key named, or the state directory's own.

    Raises:
        CliError: there is none.
        PackageError: it cannot be used.
    """
    own = access.target.state_dir / "keys" / PRIVATE
    if given is None and not own.is_file():
        raise CliError(f"there is no key in {own.parent}; `shoal up` makes it, or name one by --key")
    return load_signing(given or own)


def trusted_keys(access: Access, given: list[Path]) -> TrustedKeys:
    """The public keys named, or the state directory's own if there is one.

    Raises:
        PackageError: one of them is none.
    """
    own = access.target.state_dir / "keys" / PUBLIC
    paths = given or ([own] if own.is_file() else [])
    return TrustedKeys({str(path): load_public(path) for path in paths})


def _parts(where: str) -> tuple[str, str, str]:
    """Scheme, claim or bucket, and path; or "", directory, ""."""
    if "://" not in where:
        return "", where, ""
    split = urlsplit(where)
    if split.scheme == "file":
        return "", unquote(split.path), ""
    if not split.netloc or split.query or split.fragment:
        raise UsageProblem(f"{where} is no place for packages; write pvc://CLAIM/... or s3://BUCKET/...")
    return split.scheme, split.netloc, split.path.strip("/")


def _bucket(access: Access, bucket: str, prefix: str) -> PackageStore:
    if access.storage_key is None:
        return _bucket_by(os.environ, bucket, prefix)
    found = session.run(access.target, lambda client: client.get(SECRETS, access.target.namespace, STORAGE_SECRET))
    entries, _ = entries_of(found or {})
    entry = entries.get(access.storage_key)
    if not isinstance(entry, S3Storage) or not entry.endpoint_url:
        raise CliError(f"Secret {STORAGE_SECRET} has no valid entry {access.storage_key!r} of type s3")
    return open_s3(
        entry.endpoint_url,
        bucket,
        access_key=entry.access_key_id,
        secret_key=entry.secret_access_key,
        region=entry.region,
        certificate=entry.certificate,
        prefix=prefix,
        key=access.storage_key,
    )


def _bucket_by(variables: Mapping[str, str], bucket: str, prefix: str) -> PackageStore:
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION")
    return open_s3(
        variables.get("AWS_ENDPOINT_URL") or f"https://s3.{region or 'us-east-1'}.amazonaws.com",
        bucket,
        access_key=variables.get("AWS_ACCESS_KEY_ID"),
        secret_key=variables.get("AWS_SECRET_ACCESS_KEY"),
        region=region,
        prefix=prefix,
    )
