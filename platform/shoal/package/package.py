"""A package where it is kept: in a directory after it was built, or in a store after it was published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shoal.package import dsse
from shoal.package.errors import InvalidPackage, PackageNotFound, TamperedPackage
from shoal.package.evidence import Evidence, put_evidence, read_evidence
from shoal.package.keys import TrustedKeys
from shoal.package.manifest import About, Content, FileRef, Manifest, file_ref, read_manifest
from shoal.package.names import (
    DIGEST_CHARACTERS,
    EVIDENCE,
    MANIFEST,
    MAX_EVIDENCE,
    MAX_EVIDENCE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_SAMPLES_BYTES,
    PAYLOAD,
    SAMPLES,
    folder_of,
    is_short_digest,
    model_name,
)
from shoal.package.samples import Samples, parse_samples
from shoal.package.stores.local import LocalStore
from shoal.package.stores.protocol import PackageStore

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose manifest was read. Its files are read when they are asked for."""

    store: PackageStore
    folder: str
    """Within the store; empty: the store's root is the package."""
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Of the content."""
        return self.manifest.digest

    @property
    def content(self) -> Content:
        """What the digest is made of."""
        return self.manifest.content

    @property
    def about(self) -> About:
        """What is known of it."""
        return self.manifest.about

    def path(self, name: str) -> str:
        """The store's path of one of the package's files."""
        return f"{self.folder}/{name}" if self.folder else name

    def payload(self) -> Mapping[str, FileRef]:
        """The model's files and samples by their path in the package: all that the digest covers."""
        files = {f"{PAYLOAD}/{path}": file for path, file in self.content.files.items()}
        return files if self.content.samples is None else {SAMPLES: self.content.samples, **files}

    def samples(self) -> Samples | None:
        """Sample requests; None if it has none.

        Raises:
            TamperedPackage: they are not those that were packed.
        """
        if self.content.samples is None:
            return None
        path = self.path(SAMPLES)
        samples = parse_samples(self.store.read(path, MAX_SAMPLES_BYTES), path)
        if file_ref(samples.to_bytes()) != self.content.samples:
            raise TamperedPackage(f"{path} is not what was packed; publish the package again")
        return samples

    def evidence(self, trusted: TrustedKeys) -> tuple[dict[str, Evidence], list[str]]:
        """Evidence by name, and what is wrong with files that are none."""
        found: dict[str, Evidence] = {}
        wrong: list[str] = []
        for entry in self.store.files(self.path(EVIDENCE), MAX_EVIDENCE):
            name = entry.path.rpartition("/")[2].removesuffix(".json")
            try:
                evidence = read_evidence(self.store.read(entry.path, MAX_EVIDENCE_BYTES), entry.path, trusted)
            except InvalidPackage as error:
                wrong.append(str(error))
                continue
            if entry.path != self.path(f"{EVIDENCE}/{evidence.statement.name}.json"):
                wrong.append(f"{entry.path} is evidence {evidence.statement.name!r}, kept under another name")
            else:
                found[name] = evidence
        return found, wrong

    def add(self, envelope: dsse.Envelope) -> None:
        """Keep evidence with a package that is not published yet; publishing takes it along.

        Raises:
            InvalidPackage: it is about another package.
        """
        evidence = read_evidence(envelope.to_bytes(), "the evidence", TrustedKeys({}))
        if evidence.statement.digest != self.digest:
            raise InvalidPackage(
                f"evidence {evidence.statement.name!r} is about package {evidence.statement.digest[:12]}, "
                f"not {self.digest[:12]}"
            )
        put_evidence(self.store, self.folder, envelope)


def open_package(store: PackageStore, folder: str) -> Package:
    """The package in a folder of a store.

    Raises:
        PackageNotFound: there is none.
        InvalidPackage: its manifest is none.
        TamperedPackage: its manifest was changed.
    """
    path = f"{folder}/{MANIFEST}" if folder else MANIFEST
    try:
        data = store.read(path, MAX_MANIFEST_BYTES)
    except PackageNotFound:
        raise PackageNotFound(f"there is no package at {folder or '.'}: {path} does not exist") from None
    return Package(store, folder, read_manifest(data, path))


def open_directory(directory: Path) -> Package:
    """The package in a directory, as `shoal package build` makes it. Raises as `open_package` does."""
    if not directory.is_dir():
        how = "is no directory" if directory.exists() else "does not exist"
        raise PackageNotFound(f"there is no package at {directory}: it {how}; `shoal package build` makes one")
    try:
        return open_package(LocalStore(directory), "")
    except PackageNotFound:
        raise PackageNotFound(
            f"there is no package at {directory}: it has no {MANIFEST}; `shoal package build` makes one"
        ) from None


def published(store: PackageStore, model: str, digest: str) -> Package:
    """The published package of a model with this digest, whole or its first 12 characters. Raises as `open_package`."""
    found = open_package(store, folder_of(model_name(model), digest))
    if not found.digest.startswith(digest):
        raise TamperedPackage(f"{found.folder} holds package {found.digest[:24]}, not {digest[:24]}; publish it again")
    return found


def newest_digests(store: PackageStore, model: str) -> list[str]:
    """Of the last few packages of a model, oldest first and as folders are named: what to say where one is not found.

    Raises:
        TamperedPackage: a manifest was changed.
    """
    return [package.digest[:DIGEST_CHARACTERS] for package in find(store, model)[-_MOST_NAMED:]]


def find(store: PackageStore, model: str) -> list[Package]:
    """All published packages of a model, oldest first; folders without a manifest are not published (yet).

    Raises:
        TamperedPackage: a manifest was changed.
    """
    packages: list[Package] = []
    for folder in store.folders(model_name(model)):
        if is_short_digest(folder):
            try:
                packages.append(published(store, model, folder))
            except PackageNotFound:
                continue
    return sorted(packages, key=lambda package: (package.about.created, package.digest))
