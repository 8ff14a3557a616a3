"""The model an InferenceService names, whichever of the storage forms it uses (`storage` or `storageUri`).

The mapping of URIs is ModelMesh Serving's: what a URI says becomes storage parameters, which win over declared ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from shoal.resources.problems import FieldProblem

_AZURE_HOST = ".blob.core.windows.net"
_SCHEMES = "pvc://CLAIM/PATH, s3://BUCKET/PATH or https://HOST/PATH"


@dataclass(frozen=True, slots=True)
class SourceParts:
    """What a manifest says about the model, before it is made sense of."""

    block: str
    """Path of the block it comes from, for problems."""
    format: str
    version: str | None = None
    runtime: str | None = None
    protocol: str | None = None
    uri: str | None = None
    key: str | None = None
    path: str | None = None
    schema_path: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model: its format, the runtime asked for, and where its files are."""

    format: str
    version: str | None = None
    runtime: str | None = None
    protocol: str | None = None
    storage_key: str | None = None
    path: str = ""
    schema_path: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def resolve(parts: SourceParts) -> tuple[ModelSource | None, list[FieldProblem]]:
    """The model, or what is wrong with how it is named."""
    uri_field = f"{parts.block}.storageUri"
    if parts.uri and parts.path is not None:
        fix = f"keep one of storageUri and {parts.block}.storage.path"
        return None, [FieldProblem(uri_field, "is given beside storage.path", fix)]
    if not parts.uri and parts.path is None:
        return None, [FieldProblem(f"{parts.block}.storage.path", "is required", "add it, or storageUri")]
    found: tuple[dict[str, str], str] | str = _from_uri(parts.uri) if parts.uri else ({}, parts.path or "")
    if isinstance(found, str):
        return None, [FieldProblem(uri_field, found, f"use {_SCHEMES}")]
    parameters, path = found
    path = path.lstrip("/") if parts.uri else path
    problems = [*_escapes(f"{parts.block}.storage.path", path)]
    if parts.schema_path:
        problems += _escapes(f"{parts.block}.storage.schemaPath", parts.schema_path)
    if problems:
        return None, problems
    source = ModelSource(
        format=parts.format,
        version=parts.version,
        runtime=parts.runtime or None,
        protocol=parts.protocol or None,
        storage_key=parts.key,
        path=path,
        schema_path=parts.schema_path,
        parameters={**parts.parameters, **parameters},
    )
    return source, []


def _escapes(field_path: str, path: str) -> list[FieldProblem]:
    if ".." in path.split("/"):
        return [FieldProblem(field_path, f"{path!r} leaves its storage", "remove '..'")]
    return []


def _from_uri(uri: str) -> tuple[dict[str, str], str] | str:
    """Storage parameters and path, or why there are none."""
    try:
        split = urlsplit(uri)
    except ValueError as error:
        return f"{uri!r} is not a URI ({error})"
    if not split.netloc:
        return f"{uri!r} names no scheme and host"
    match split.scheme:
        case "pvc":
            return {"type": "pvc", "name": split.netloc}, split.path
        case "s3":
            return {"type": "s3", "bucket": split.netloc}, split.path
        case "gs":
            return {"type": "gcs", "bucket": split.netloc}, split.path
        case "http" | "https" if split.netloc.endswith(_AZURE_HOST):
            container, _, path = split.path.lstrip("/").partition("/")
            account = split.netloc.removesuffix(_AZURE_HOST)
            return {"type": "azure", "account_name": account, "container": container}, path
        case "http" | "https":
            query = f"?{split.query}" if split.query else ""
            return {"type": "http", "url": f"{split.scheme}://{split.netloc}{query}"}, split.path
    return f"storage of scheme {split.scheme!r} is not supported"
