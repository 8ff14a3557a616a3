"""Entries of the Secret `storage-config`: each value is a JSON object that says how to reach one place with models.

Each entry is read on its own, so that a wrong one harms only the models that use it (upstream: all runtimes).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import ConfigDict, Field

from shoal.resources.parse import read
from shoal.resources.problems import FieldProblem, InvalidManifest
from shoal.resources.shape import Shape


class _Entry(Shape):
    # Keys of entries are snake_case, unlike those of manifests.
    model_config = ConfigDict(alias_generator=None)

    type: str


class S3Storage(_Entry):
    """An S3 bucket or a server that speaks S3."""

    access_key_id: str | None = None
    secret_access_key: str | None = Field(None, repr=False)
    endpoint_url: str | None = None
    region: str | None = None
    bucket: str | None = None
    default_bucket: str | None = None
    certificate: str | None = None


class GCSStorage(_Entry):
    """Google Cloud Storage; anonymous without a key."""

    private_key: str | None = Field(None, repr=False)
    client_email: str | None = None
    token_uri: str | None = None
    bucket: str | None = None


class AzureStorage(_Entry):
    """Azure Blob Storage; anonymous without credentials."""

    account_name: str | None = None
    container: str | None = None
    connection_string: str | None = Field(None, repr=False)
    client_id: str | None = None
    client_secret: str | None = Field(None, repr=False)
    tenant_id: str | None = None


class HTTPStorage(_Entry):
    """A web server."""

    url: str | None = None
    headers: dict[str, Any] = Field(default_factory=dict, repr=False)
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = Field(None, repr=False)


class PVCStorage(_Entry):
    """A PersistentVolumeClaim in the same namespace."""

    name: str | None = None


class LocalStorage(_Entry):
    """A directory of the pod."""

    path: str | None = None


Storage: TypeAlias = S3Storage | GCSStorage | AzureStorage | HTTPStorage | PVCStorage | LocalStorage

_TYPES: dict[str, type[Storage]] = {
    "s3": S3Storage,
    "gcs": GCSStorage,
    "azure": AzureStorage,
    "http": HTTPStorage,
    "pvc": PVCStorage,
    "local": LocalStorage,
}
_TOGETHER = {
    "s3": (("access_key_id", "secret_access_key"),),
    "gcs": (("private_key", "client_email"),),
    "azure": (("client_id", "client_secret", "tenant_id"),),
    "http": (("client_certificate", "client_key"),),
}


def parse_entry(key: str, text: str) -> Storage:
    """One entry.

    Raises:
        InvalidManifest: with every wrong field. Values are never quoted: they may be secrets.
    """
    what = f"entry {key!r} of storage-config"
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"is not JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        raise InvalidManifest(what, [FieldProblem(key, problem)]) from None
    if not isinstance(document, dict):
        raise InvalidManifest(what, [FieldProblem(key, "must be a JSON object")])
    kind = document.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise InvalidManifest(
            what, [FieldProblem(f"{key}.type", "is missing or not known", f"use {', '.join(_TYPES)}")]
        )
    incomplete = _incomplete(key, kind, document)
    try:
        entry: Storage = read(_TYPES[kind], document, what=what)
    except InvalidManifest as error:
        wrong = [_without_value(key, problem) for problem in error.problems]
        raise InvalidManifest(what, wrong + incomplete) from None
    if incomplete:
        raise InvalidManifest(what, incomplete)
    return entry


def entries_of(secret: Mapping[str, Any]) -> tuple[dict[str, Storage], list[FieldProblem]]:
    """The entries of a Secret manifest (`data` in base64, `stringData` as it is) and what is wrong with the others."""
    texts: dict[str, str] = {}
    problems: list[FieldProblem] = []
    for key, value in (secret.get("data") or {}).items():
        try:
            texts[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, TypeError):
            problems.append(FieldProblem(f"data.{key}", "is not text in base64"))
    texts |= secret.get("stringData") or {}
    entries: dict[str, Storage] = {}
    for key, text in texts.items():
        try:
            entries[key] = parse_entry(key, text)
        except InvalidManifest as error:
            problems += error.problems
    return entries, problems


def claims_in(entries: Mapping[str, Storage]) -> tuple[str, ...]:
    """Names of the PersistentVolumeClaims that are mounted into every pod, sorted."""
    return tuple(sorted({entry.name for entry in entries.values() if isinstance(entry, PVCStorage) and entry.name}))


def _without_value(key: str, problem: FieldProblem) -> FieldProblem:
    said, _, _ = problem.problem.partition(", not ")
    fix = "" if problem.fix.startswith("write it in quotes") else problem.fix
    return FieldProblem(f"{key}.{problem.path}", said, fix, unknown=problem.unknown)


def _incomplete(key: str, kind: str, document: Mapping[str, Any]) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    for group in _TOGETHER.get(kind, ()):
        missing = [name for name in group if not document.get(name)]
        if 0 < len(missing) < len(group):
            fix = f"{' and '.join(group)} come together"
            problems += [FieldProblem(f"{key}.{name}", "is missing", fix) for name in missing]
    return problems
