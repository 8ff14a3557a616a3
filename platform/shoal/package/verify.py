"""Verifying a package: every byte of payload, manifest, signature and evidence is what was published.

Reads all files once. Problems are collected, not raised, so that a report names all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from shoal.package.errors import InvalidPackage, PackageNotFound, TamperedPackage
from shoal.package.evidence import Evidence
from shoal.package.keys import TrustedKeys
from shoal.package.names import EVIDENCE, MANIFEST, MAX_EVIDENCE, MAX_FILES, MAX_SIGNATURE_BYTES, SIGNATURE
from shoal.package.package import Package
from shoal.package.signing import covers, sealed_by
from shoal.package.stores.protocol import PackageStore, StoreEntry


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found."""

    digest: str
    problems: tuple[str, ...]
    """Why the package is not to be used; none if it is sound."""
    notes: tuple[str, ...]
    """What one may want to know, such as that it is not signed."""
    signed_by: str | None
    """Trusted key that signed the payload."""
    sealed_by: str | None
    """Trusted key that signed the manifest."""
    evidence: dict[str, Evidence] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing was changed."""
        return not self.problems


def verify(package: Package, trusted: TrustedKeys) -> Verification:
    """Verify a package whose manifest was read (which checks the manifest itself).

    Without trusted keys changes by accident are found; by one who also writes a fitting manifest, only with them.

    Raises:
        StoreUnavailable: try again.
    """
    problems: list[str] = []
    notes: list[str] = []
    entries = {entry.path: entry for entry in package.store.files(package.folder, 2 * MAX_FILES + MAX_EVIDENCE)}
    problems += payload_problems(package, entries)
    problems += _strays(package, entries)
    signer = _signer(package, entries, trusted, problems, notes)
    sealer = sealed_by(package.manifest, trusted)
    if package.manifest.seal is None:
        notes.append(f"{MANIFEST} is not sealed: nobody vouches for what it says about the package")
    elif sealer is None:
        _unknown_seal(package, trusted, problems)
    try:
        evidence, wrong = package.evidence(trusted)
    except InvalidPackage as error:
        evidence, wrong = {}, [str(error)]
    problems += wrong
    problems += _evidence_problems(package, evidence, trusted)
    return Verification(package.digest, tuple(problems), tuple(notes), signer, sealer, evidence)


def payload_problems(package: Package, entries: dict[str, StoreEntry]) -> Iterator[str]:
    """What is wrong with the files the digest covers, read to their ends."""
    for name, expected in package.payload().items():
        path = package.path(name)
        if path not in entries:
            yield f"{path} is missing"
        elif entries[path].size != expected.size:
            yield f"{path} has {entries[path].size} bytes, not {expected.size}"
        elif (found := hash_of(package.store, path)) != expected.sha256:
            yield f"{path} was changed: its SHA-256 is {found[:12]}..., not {expected.sha256[:12]}..."


def signature_of(package: Package, trusted: TrustedKeys) -> tuple[str | None, str]:
    """Name of the trusted key that signed the payload, or None and why none counts. Reads no file of the payload."""
    try:
        data = package.store.read(package.path(SIGNATURE), MAX_SIGNATURE_BYTES)
    except PackageNotFound:
        return None, "the model is not signed"
    try:
        return covers(data, package.content.files, trusted).name, ""
    except (InvalidPackage, TamperedPackage) as error:
        return None, str(error)


def hash_of(store: PackageStore, path: str) -> str:
    """SHA-256 of a file in a store."""
    digest = hashlib.sha256()
    with store.chunks(path) as chunks:
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


def _strays(package: Package, entries: dict[str, StoreEntry]) -> Iterator[str]:
    known = {package.path(name) for name in (*package.payload(), MANIFEST, SIGNATURE)}
    for path in entries:
        if path not in known and not path.startswith(package.path(f"{EVIDENCE}/")):
            yield f"{path} is not of this package; remove it"


def _signer(
    package: Package, entries: dict[str, StoreEntry], trusted: TrustedKeys, problems: list[str], notes: list[str]
) -> str | None:
    if package.path(SIGNATURE) not in entries:
        if package.manifest.seal is None:
            notes.append("the payload is not signed")
        else:
            problems.append(f"{SIGNATURE} is missing, although the package was signed; attest its signature again")
        return None
    if not trusted:
        notes.append("no trusted keys are given, so the signature was not checked")
        return None
    signer, why = signature_of(package, trusted)
    problems += [why] if signer is None else []
    return signer


def _unknown_seal(package: Package, trusted: TrustedKeys, problems: list[str]) -> None:
    keyid = package.manifest.seal.keyid if package.manifest.seal else ""
    if trusted.get(keyid) is not None:
        problems.append(f"{MANIFEST} is not what its seal was made for")
    elif trusted:
        problems.append(f"{MANIFEST} is sealed by key {keyid[:12]}, which is not trusted")


def _evidence_problems(package: Package, evidence: dict[str, Evidence], trusted: TrustedKeys) -> Iterator[str]:
    for name, item in evidence.items():
        if item.statement.digest != package.digest:
            yield f"evidence {name!r} is about package {item.statement.digest[:12]}"
        if item.signer is None and trusted.get(item.envelope.keyid) is not None:
            yield f"evidence {name!r} is not what was signed"
        elif item.signer is None and trusted:
            yield f"evidence {name!r} is signed by key {item.envelope.keyid[:12]}, which is not trusted"
