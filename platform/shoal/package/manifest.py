"""The manifest of a package: what is in it (`content`, which its digest is made of) and what is known of it (`about`).

The file is canonical JSON, so that one byte that differs is found. The digest is that of the content alone: the same
model, signature and samples are the same package, whoever builds it, whenever; the first publisher's `about` stays.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from shoal.oip.datatypes import DatatypeName
from shoal.package.errors import InvalidPackage, PackageError, TamperedPackage
from shoal.package.names import MANIFEST, MAX_FILES, MAX_MANIFEST_BYTES, MAX_PAYLOAD_BYTES, file_path
from shoal.resources.parse import problems_of
from shoal.resources.shape import Shape

KIND: Final = "shoal.dev/package/v1"


def _path(path: str) -> str:
    try:
        return file_path(path)
    except InvalidPackage as error:
        raise ValueError(str(error)) from None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number; leave out what is not known")
    return value


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("needs a time zone, such as 2026-01-31T12:00:00Z")
    return value.astimezone(UTC)


FilePath = Annotated[str, AfterValidator(_path)]
Metric = Annotated[float, AfterValidator(_finite)]
Moment = Annotated[datetime, AfterValidator(_utc)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=4096)]


class FilePart(Shape):
    """A part of a file of a package."""

    # Numbers may be written without a fraction; everything else is as strict as in manifests of resources.
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True, populate_by_name=True)


class FileRef(FilePart):
    """A file by its content."""

    sha256: Sha256
    size: int = Field(ge=0)


class TensorSpec(FilePart):
    """One input or output of a model."""

    name: str = Field(min_length=1, max_length=512)
    datatype: DatatypeName
    shape: list[int] = Field(max_length=32, description="-1 where any size will do.")


class Signature(FilePart):
    """What goes into a model and what comes out."""

    inputs: list[TensorSpec] = Field(max_length=4096)
    outputs: list[TensorSpec] = Field(default_factory=list, max_length=4096)


class Content(FilePart):
    """What the digest is made of."""

    format: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="As `modelFormat.name`.")
    version: str | None = Field(default=None, max_length=64, description="As `modelFormat.version`.")
    signature: Signature | None = None
    samples: FileRef | None = None
    files: dict[FilePath, FileRef] = Field(min_length=1, max_length=MAX_FILES, description="By path below `model/`.")

    @model_validator(mode="after")
    def _no_file_is_a_folder(self) -> Content:
        for path in self.files:
            parents = path.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                if "/".join(parents[:depth]) in self.files:
                    raise ValueError(f"files: {'/'.join(parents[:depth])!r} is both a file and a folder")
        if self.size > MAX_PAYLOAD_BYTES:
            raise ValueError(f"files: {self.size} bytes in all; at most {MAX_PAYLOAD_BYTES} are allowed")
        return self

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return sum(file.size for file in self.files.values())


class Lineage(FilePart):
    """Where a model comes from."""

    dagster_run: Text | None = Field(default=None, description="Id or address of the run that made it.")
    code_version: Text | None = None
    data_version: Text | None = None
    origin: Text | None = Field(default=None, description="Where else its files come from, such as an MLflow run.")
    parent: Text | None = Field(default=None, description="Digest of the package it follows.")


class About(FilePart):
    """What is known of a package and does not change its digest."""

    created: Moment
    metrics: dict[str, Metric] = Field(default_factory=dict, max_length=1024)
    environment: dict[str, Text] = Field(
        default_factory=dict, max_length=4096, description="Packages and versions it was made with."
    )
    lineage: Lineage = Lineage()
    licence: Text | None = None
    owner: Text | None = None
    description: Text | None = None


class Seal(FilePart):
    """A signature over content and about, made when the package was published."""

    keyid: Sha256
    sig: str = Field(min_length=1, max_length=1024)


class Manifest(FilePart):
    """`shoal-package.json`."""

    kind: Literal["shoal.dev/package/v1"] = KIND
    digest: Sha256
    content: Content
    about: About
    checksum: Sha256
    """Of everything above."""
    seal: Seal | None = None

    def sealed_bytes(self) -> bytes:
        """What `checksum` and `seal` are about."""
        return _sealed_bytes(self.digest, self.content, self.about)

    def to_bytes(self) -> bytes:
        """The file."""
        return canonical(self.model_dump(mode="json", by_alias=True, exclude_none=True)) + b"\n"


def canonical(document: Any) -> bytes:
    """JSON with sorted keys, no blanks, UTF-8, numbers as Python writes them: one form for one document.

    Raises:
        ValueError: it holds a number that JSON has no form for.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def file_ref(data: bytes) -> FileRef:
    """A small file by its content."""
    return FileRef(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def digest_of(content: Content) -> str:
    """The digest of a package with this content."""
    return hashlib.sha256(canonical(content.model_dump(mode="json", by_alias=True, exclude_none=True))).hexdigest()


def compose(content: Content, about: About) -> Manifest:
    """The manifest of this content, not sealed."""
    digest = digest_of(content)
    checksum = hashlib.sha256(_sealed_bytes(digest, content, about)).hexdigest()
    return Manifest(digest=digest, content=content, about=about, checksum=checksum)


def read_manifest(data: bytes, where: str = MANIFEST) -> Manifest:
    """The manifest in a file. `where` names it in errors.

    Raises:
        InvalidPackage: it is no manifest; every wrong field is named.
        TamperedPackage: it is one that was changed after it was written.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise InvalidPackage(f"{where} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise InvalidPackage(f"{where} is no manifest of a package: {problems(Manifest, error)}") from None
    if digest_of(manifest.content) != manifest.digest:
        raise _changed(where, "its content is not what its digest says")
    if hashlib.sha256(manifest.sealed_bytes()).hexdigest() != manifest.checksum:
        raise _changed(where, "its checksum is not that of its text")
    if manifest.to_bytes() != data:
        raise _changed(where, "it is not written as Shoal writes it")
    return manifest


def problems(model: type[Shape], error: ValidationError) -> str:
    """Every wrong field in one line."""
    return " | ".join(str(problem) for problem in problems_of(model, error))


def _sealed_bytes(digest: str, content: Content, about: About) -> bytes:
    parts = {"content": content, "about": about}
    document: dict[str, Any] = {
        name: part.model_dump(mode="json", by_alias=True, exclude_none=True) for name, part in parts.items()
    }
    return canonical({"kind": KIND, "digest": digest, **document})


def _changed(where: str, how: str) -> PackageError:
    return TamperedPackage(f"{where} was changed after it was written: {how}; publish the package again")
