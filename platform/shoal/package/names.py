"""Names and limits of packages: what a path, a model or a piece of evidence may be called, and how large things may be.

Paths come from people, manifests and stores, so all of them go through `file_path` before anything touches a disk.
"""

from __future__ import annotations

import re
from typing import Final

from shoal.package.errors import InvalidPackage

MANIFEST: Final = "shoal-package.json"
SAMPLES: Final = "samples.json"
PAYLOAD: Final = "model"
SIGNATURE: Final = "model.sig"
EVIDENCE: Final = "evidence"
DIGEST_CHARACTERS: Final = 12
"""Of the digest, in the names of folders."""

MAX_FILES: Final = 10_000
MAX_PAYLOAD_BYTES: Final = 200 * 1024**3
MAX_PATH_BYTES: Final = 512
"""S3 allows 1,024 for a whole key."""
MAX_PART_BYTES: Final = 255
MAX_MANIFEST_BYTES: Final = 8 * 1024 * 1024
MAX_SAMPLES_BYTES: Final = 16 * 1024 * 1024
MAX_SIGNATURE_BYTES: Final = 8 * 1024 * 1024
MAX_EVIDENCE_BYTES: Final = 1024 * 1024
MAX_EVIDENCE: Final = 64
"""Pieces of evidence a package may have."""

_MODEL = re.compile(r"[a-z]([-a-z0-9]{0,198}[a-z0-9])?")
_EVIDENCE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHORT = re.compile(rf"[0-9a-f]{{{DIGEST_CHARACTERS}}}")


def model_name(name: str) -> str:
    """The name under which packages of a model are published: as an InferenceService is named.

    Raises:
        InvalidPackage: it is no such name.
    """
    if not _MODEL.fullmatch(name):
        raise InvalidPackage(
            f"{name[:80]!r} is no name for a model: use lower-case letters, digits and '-', start with a letter, "
            f"at most 200 characters"
        )
    return name


def evidence_name(name: str) -> str:
    """A name of evidence, such as `golden-replay`.

    Raises:
        InvalidPackage: it is no such name.
    """
    if not _EVIDENCE.fullmatch(name):
        raise InvalidPackage(f"{name[:80]!r} is no name for evidence: use lower-case letters, digits and '-'")
    return name


def is_digest(text: str) -> bool:
    """Whether it is a whole digest."""
    return _DIGEST.fullmatch(text) is not None


def is_short_digest(text: str) -> bool:
    """Whether it is a digest as folders carry it."""
    return _SHORT.fullmatch(text) is not None


def file_path(path: str, what: str = "path") -> str:
    """A relative path with `/` between its parts that stays where it is put, on every file system and in S3.

    Raises:
        InvalidPackage: it is absolute, leaves its folder, has empty or `.` parts, or holds characters that stores or
            terminals take as something else.
    """
    shown = f"{what} {path[:200]!r}"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise InvalidPackage(f"{shown} is not valid Unicode; rename the file") from None
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        raise InvalidPackage(f"{shown} leaves its folder; name it from the folder, without '..'")
    if not path or "" in parts or "." in parts:
        raise InvalidPackage(f"{shown} has an empty part; write it like dir/file")
    if "\\" in path or any(not character.isprintable() for character in path):
        raise InvalidPackage(f"{shown} holds a backslash or a control character; rename the file")
    if len(encoded) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise InvalidPackage(f"{shown} is too long: at most {MAX_PATH_BYTES} bytes, {MAX_PART_BYTES} a part")
    return path


def folder_of(model: str, digest: str) -> str:
    """Where a package is published, from the store's root."""
    return f"{model}/{digest[:DIGEST_CHARACTERS]}"
