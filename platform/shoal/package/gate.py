"""What the mesh asks before it lets a model serve: does its package carry the evidence that is required of it?

Answered from the store, whoever asks, each time anew; only the hashing of a payload whose files did not change since is
not repeated. Nothing in a package is believed unless a trusted key signed it, and nothing that cannot be read passes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from shoal.package.errors import InvalidPackage, PackageNotFound, TamperedPackage
from shoal.package.evidence import SIGNATURE_EVIDENCE, Evidence
from shoal.package.keys import TRUSTED_KEYS, TrustedKeys
from shoal.package.names import (
    MAX_EVIDENCE,
    MAX_FILES,
    PAYLOAD,
    evidence_name,
    is_short_digest,
    model_name,
)
from shoal.package.package import Package, open_package
from shoal.package.stores.local import LocalStore
from shoal.package.stores.protocol import PackageStore, StoreEntry
from shoal.package.verify import payload_problems, signature_of
from shoal.resources.source import ModelSource
from shoal.resources.storage import PVCStorage, S3Storage, Storage

_REMEMBERED: Final = 10_000


class Gate:
    """Judges packages; thread-safe. Calls read files or the network, so call it off the event loop."""

    def __init__(self) -> None:
        self._sound: OrderedDict[tuple[str, str], tuple[StoreEntry, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def missing(
        self,
        source: ModelSource,
        requires: Sequence[str],
        trusted: TrustedKeys,
        *,
        entries: Mapping[str, Storage],
        claims: Path | None = None,
    ) -> str | None:
        """None if the model's package carries all evidence in `requires`; else what is missing and how to add it.

        Args:
            source: the model as its InferenceService names it.
            entries: of the Secret `storage-config`.
            claims: the folder with one folder a PersistentVolumeClaim; None: claims cannot be read here.

        Raises:
            StoreUnavailable: it cannot be known now; ask again, and let nothing pass until then.
        """
        if not requires:
            return None
        required = ", ".join(requires)
        try:
            store = store_of(source, entries, claims)
            package, model = package_at(store, source.path)
            problems = list(self._problems(package, model, requires, trusted))
        except (InvalidPackage, TamperedPackage, PackageNotFound) as error:
            return f"evidence is required ({required}) and cannot be found: {error}"
        if not problems:
            return None
        uri = store.address(package.folder).uri
        return f"package {uri} lacks required evidence: {'; '.join(problems)}. {_remedy(problems, trusted)}"

    def _problems(self, package: Package, model: str, requires: Sequence[str], trusted: TrustedKeys) -> Iterator[str]:
        where = package.store.address(package.folder).uri
        listed = {e.path: e for e in package.store.files(package.folder, 2 * MAX_FILES + MAX_EVIDENCE)}
        evidence, wrong = package.evidence(trusted)
        yield from wrong
        for name in requires:
            why = (
                signature_of(package, trusted)[1]
                if name == SIGNATURE_EVIDENCE
                else _unproven(evidence.get(evidence_name(name)), package, model)
            )
            if why:
                yield f"{name} ({why}; add it by: shoal package attest {where} {name})"
        yield from self._changed(package, listed, where)

    def _changed(self, package: Package, listed: dict[str, StoreEntry], where: str) -> Iterator[str]:
        yield from _unknown_files(package, listed)
        files = tuple(listed[path] for path in map(package.path, package.payload()) if path in listed)
        known = (where, package.digest)
        with self._lock:
            if self._sound.get(known) == files:
                return
        problems = list(payload_problems(package, listed))
        yield from problems
        if not problems:
            with self._lock:
                self._sound[known] = files
                self._sound.move_to_end(known)
                while len(self._sound) > _REMEMBERED:
                    self._sound.popitem(last=False)


def store_of(source: ModelSource, entries: Mapping[str, Storage], claims: Path | None) -> PackageStore:
    """The store a model is in, by the adapter's rules for finding it.

    Raises:
        InvalidPackage: packages are not read from such a storage, or the entry is not there.
    """
    kind = source.parameters.get("type")
    key = source.storage_key or (f"default_{kind}" if kind else "default")
    entry = entries.get(key)
    if source.storage_key is not None and entry is None:
        raise InvalidPackage(f"storage-config has no valid entry {source.storage_key!r}")
    if (isinstance(entry, PVCStorage) and kind in (None, "pvc")) or kind == "pvc":
        return _claim(source.parameters.get("name") or (entry.name if isinstance(entry, PVCStorage) else None), claims)
    if isinstance(entry, S3Storage) and kind in (None, "s3"):
        return _bucket(source, entry, key)
    raise InvalidPackage(f"packages are read from S3 and from claims; storage {key!r} is neither, or has no entry")


def package_at(store: PackageStore, path: str) -> tuple[Package, str]:
    """The package whose payload is at a path, and the model it is published for.

    Raises:
        InvalidPackage: the path is not that of a package's payload.
        PackageNotFound: no package is published there.
        TamperedPackage: another package than the path says is there.
    """
    parts = path.strip("/").split("/")
    if len(parts) < 3 or parts[-1] != PAYLOAD or not is_short_digest(parts[-2]):
        raise InvalidPackage(
            f"storage.path {path!r} is not a published package (MODEL/DIGEST/model); publish by `shoal package publish`"
        )
    package = open_package(store, "/".join(parts[:-1]))
    if not package.digest.startswith(parts[-2]):
        raise TamperedPackage(f"{path} holds package {package.digest[:12]}; publish it again")
    return package, model_name(parts[-3])


def _claim(name: str | None, claims: Path | None) -> PackageStore:
    if claims is None:
        raise InvalidPackage("packages on claims cannot be read by the mesh here; publish to S3")
    if not name or "/" in name or name.startswith("."):
        raise InvalidPackage("storage.parameters.name does not name a claim")
    return LocalStore(claims / name, claim=name)


def _bucket(source: ModelSource, entry: S3Storage, key: str) -> PackageStore:
    given = source.parameters
    endpoint, bucket = entry.endpoint_url, given.get("bucket") or entry.bucket or entry.default_bucket
    if given.get("endpoint_url") not in (None, endpoint):
        raise InvalidPackage("storage.parameters.endpoint_url may not differ from that of its entry")
    if not endpoint or not bucket:
        raise InvalidPackage(f"storage-config entry {key!r} lacks {'bucket' if endpoint else 'endpoint_url'}")
    # Imports minio, which the mesh shall not wait for at its start.
    from shoal.package.stores.s3 import open_s3

    return open_s3(
        endpoint,
        bucket,
        access_key=entry.access_key_id,
        secret_key=entry.secret_access_key,
        region=given.get("region") or entry.region,
        certificate=entry.certificate,
        key=key,
    )


def _unproven(evidence: Evidence | None, package: Package, model: str) -> str | None:
    if evidence is None:
        return "missing"
    statement = evidence.statement
    if evidence.signer is None:
        return f"signed by key {evidence.envelope.keyid[:12]}, which is not trusted, or changed"
    if statement.digest != package.digest:
        return f"is about package {statement.digest[:12]}"
    if statement.model not in ("", model):
        return f"is about model {statement.model!r}"
    return None if statement.passed else f"did not pass: {statement.summary or 'no reason given'}"


def _unknown_files(package: Package, listed: Mapping[str, StoreEntry]) -> Iterator[str]:
    """Only within the payload: that is what a model server reads."""
    known, payload = {package.path(name) for name in package.payload()}, package.path(f"{PAYLOAD}/")
    return (f"{path} is not of this package" for path in listed if path.startswith(payload) and path not in known)


def _remedy(problems: Sequence[str], trusted: TrustedKeys) -> str:
    if not trusted:
        return f"No key is trusted in this namespace: add public keys to ConfigMap {TRUSTED_KEYS}"
    return f"It must be signed by a key of ConfigMap {TRUSTED_KEYS} ({', '.join(trusted.names[:10])})"
