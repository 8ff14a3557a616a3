"""Publishing: a package becomes visible at once and as a whole, or not at all.

Everything goes into a folder named by the digest, the manifest last and only if none is there: it is the commit marker,
and readers take a folder without it for nothing. So a publisher may die anywhere; the next one writes the same files
over what is there. Two at once write the same bytes, and one manifest wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal.package.errors import InvalidPackage, PackageNotFound, TamperedPackage
from shoal.package.evidence import put_evidence, read_evidence
from shoal.package.keys import SigningKey, TrustedKeys
from shoal.package.manifest import FileRef
from shoal.package.names import (
    EVIDENCE,
    MANIFEST,
    MAX_EVIDENCE,
    MAX_EVIDENCE_BYTES,
    MAX_FILES,
    MAX_SIGNATURE_BYTES,
    PAYLOAD,
    SAMPLES,
    SIGNATURE,
    folder_of,
    model_name,
)
from shoal.package.package import Package, open_directory, published
from shoal.package.signing import covers, seal, sign_payload
from shoal.package.stores.protocol import PackageStore, StoreAddress
from shoal.package.verify import hash_of

_UPLOADS: Final = 4
"""Files sent at a time."""


@dataclass(frozen=True, slots=True)
class Published:
    """Where a package is."""

    model: str
    digest: str
    format: str
    version: str | None
    address: StoreAddress
    """Of the payload: what an InferenceService names."""
    created: bool
    """False: the same content was published before, and its `about` stays."""

    @property
    def uri(self) -> str:
        """Of the payload."""
        return self.address.uri

    @property
    def folder(self) -> str:
        """Of the package, in its store."""
        return folder_of(self.model, self.digest)


def publish(directory: Path, store: PackageStore, model: str, *, key: SigningKey | None = None) -> Published:
    """Publish the package in a directory as one of a model's, with its evidence; signed if there is a key.

    Idempotent: the same content has the same digest and place. What was published before keeps its manifest; evidence
    that is newer, and a signature if it has none, are added to it.

    Raises:
        InvalidPackage: the name, the package or its evidence is wrong.
        TamperedPackage: a file is not what the manifest says.
        StoreUnavailable: nothing is visible yet; publish again.
    """
    package = open_directory(directory)
    folder = folder_of(model_name(model), package.digest)
    require_whole(package, read=key is None)
    evidence = _evidence(package, model)
    signature = sign_payload(directory / PAYLOAD, key) if key else None
    if key and signature:
        # What was signed is what the manifest says, whatever happened to the files since they were built.
        covers(signature, package.content.files, TrustedKeys({"": key.public}))
    created = False
    if _present(store, model, package) is None:
        _upload(package, directory, store, folder)
        _add(store, folder, evidence, signature, package, key)
        manifest = seal(package.manifest, key) if key else package.manifest
        created = store.create(f"{folder}/{MANIFEST}", manifest.to_bytes())
    if not created:
        present = _present(store, model, package)
        if present is None:
            raise InvalidPackage(f"{folder} was removed while it was published; publish again")
        _add(store, folder, evidence, None if _signed(present) else signature, package, key)
    return _result(store, package, model, created=created)


def require_whole(package: Package, *, read: bool) -> None:
    """Refuse a built package whose files are not those it was built of, before anything of it is sent.

    Args:
        read: compare the model's bytes too, not only names and sizes; signing it does that as well.

    Raises:
        TamperedPackage: a file was added, removed or changed.
        InvalidPackage: one was replaced by a link.
    """
    payload = package.payload()
    there = {entry.path: entry.size for entry in package.store.files(package.folder, 2 * MAX_FILES + MAX_EVIDENCE)}
    for name, expected in payload.items():
        path = package.path(name)
        if path not in there:
            raise TamperedPackage(f"{path} is missing; build the package again")
        same = there[path] == expected.size
        if same and (read or name == SAMPLES):
            same = hash_of(package.store, path) == expected.sha256
        if not same:
            raise TamperedPackage(f"{path} changed after the package was built; build it again")
    for path in there.keys() - {package.path(name) for name in payload}:
        if path.startswith(package.path(f"{PAYLOAD}/")):
            raise TamperedPackage(f"{path} was added after the package was built; remove it, or build it again")


def published_as(package: Package, model: str) -> Published:
    """What `publish` returned for a package that is in a store."""
    return _result(package.store, package, model, created=False)


def _result(store: PackageStore, package: Package, model: str, *, created: bool) -> Published:
    address = store.address(f"{folder_of(model, package.digest)}/{PAYLOAD}")
    content = package.content
    return Published(model, package.digest, content.format, content.version, address, created)


def _present(store: PackageStore, model: str, package: Package) -> Package | None:
    try:
        return published(store, model, package.digest)
    except PackageNotFound:
        return None


def _evidence(package: Package, model: str) -> Mapping[str, bytes]:
    """The package's evidence by file name; all of it must be about this package and model."""
    nobody = TrustedKeys({})
    found: dict[str, bytes] = {}
    for entry in package.store.files(EVIDENCE, MAX_EVIDENCE):
        data = package.store.read(entry.path, MAX_EVIDENCE_BYTES)
        statement = read_evidence(data, entry.path, nobody).statement
        if entry.path != f"{EVIDENCE}/{statement.name}.json":
            raise InvalidPackage(f"{entry.path} is evidence {statement.name!r}; rename it")
        if statement.digest != package.digest:
            raise InvalidPackage(f"{entry.path} is about package {statement.digest[:12]}, not {package.digest[:12]}")
        if statement.model not in ("", model):
            raise InvalidPackage(f"{entry.path} is about model {statement.model!r}, not {model!r}")
        found[entry.path] = data
    return found


def _upload(package: Package, directory: Path, store: PackageStore, folder: str) -> None:
    payload = package.payload()
    _remove_strays(store, folder, payload)
    with ThreadPoolExecutor(_UPLOADS, "shoal-publish") as threads:
        jobs = [
            threads.submit(store.upload, f"{folder}/{path}", directory / path, expected)
            for path, expected in payload.items()
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _remove_strays(store: PackageStore, folder: str, payload: Mapping[str, FileRef]) -> None:
    """Files that are not of the package: a model server would find them in the payload's folder."""
    for entry in store.files(folder, 2 * MAX_FILES + MAX_EVIDENCE):
        path = entry.path.removeprefix(f"{folder}/")
        if path not in payload and path not in (MANIFEST, SIGNATURE) and not path.startswith(f"{EVIDENCE}/"):
            store.delete(entry.path)


def _add(
    store: PackageStore,
    folder: str,
    evidence: Mapping[str, bytes],
    signature: bytes | None,
    package: Package,
    key: SigningKey | None,
) -> None:
    for path, data in evidence.items():
        put_evidence(store, folder, read_evidence(data, path, TrustedKeys({})).envelope)
    if signature is None or key is None:
        return
    path = f"{folder}/{SIGNATURE}"
    if store.create(path, signature):
        return
    try:  # A publisher that died left one, or another publishes just now; one by this key is as good.
        covers(store.read(path, MAX_SIGNATURE_BYTES), package.content.files, TrustedKeys({"": key.public}))
    except (InvalidPackage, TamperedPackage):
        store.write(path, signature)


def _signed(package: Package) -> bool:
    return any(entry.path == package.path(SIGNATURE) for entry in package.store.files(package.folder, 2 * MAX_FILES))
