"""What the adapter asks of the storage and what it gets, and the model key in which the mesh says where a model is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shoal_runtime.storage.errors import InvalidStorageError

MAX_KEY_CHARACTERS = 1024 * 1024
"""Longest model key that is parsed."""


@dataclass(frozen=True, slots=True)
class ModelKey:
    """`LoadModelRequest.modelKey`, parsed. Field names are those of ModelMesh Serving's JSON."""

    model_type: dict[str, Any] | str | None = None
    storage_key: str | None = None
    """Name of an entry of the `storage-config` Secret; None: `default`, or `default_<type>` if a type is given."""
    storage_params: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Overrides of that entry, keyed by dot-path. May hold credentials, hence never shown."""
    schema_path: str | None = None
    bucket: str | None = None
    """Deprecated upstream: replaces the entry's bucket if it has one."""
    disk_size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Have the files of a model on disk. `model_path` is the path within the store."""

    model_id: str
    model_path: str
    key: ModelKey


@dataclass(frozen=True, slots=True)
class PulledModel:
    """Where the files are. `path` is a file or a folder, or a link to one in a claim."""

    path: Path
    schema_path: Path | None
    disk_bytes: int
    """Size of all regular files of the model, links followed, without the schema."""


def parse_model_key(text: str) -> ModelKey:
    """The model key in `text`; an empty text is an empty key. Unknown fields are ignored, as upstream does.

    Raises:
        InvalidStorageError: it is not a JSON object, or a field has the wrong type.
    """
    if len(text) > MAX_KEY_CHARACTERS:
        raise InvalidStorageError(f"modelKey is {len(text)} characters long; at most {MAX_KEY_CHARACTERS} are read")
    if not text.strip():
        return ModelKey()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidStorageError(f"modelKey is not JSON ({error}); it must be an object with storage_key") from None
    if not isinstance(document, dict):
        raise InvalidStorageError(f"modelKey must be a JSON object, not {type(document).__name__}")
    model_type = document.get("model_type")
    if not isinstance(model_type, dict | str | None):
        raise InvalidStorageError('modelKey.model_type must be a string or an object such as {"name": "sklearn"}')
    return ModelKey(
        model_type=model_type,
        storage_key=_string(document, "storage_key"),
        storage_params=_params(document.get("storage_params")),
        schema_path=_string(document, "schema_path"),
        bucket=_string(document, "bucket"),
        disk_size_bytes=_size(document.get("disk_size_bytes")),
    )


def _string(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidStorageError(f"modelKey.{name} must be a string, not {type(value).__name__}")
    return value or None


def _params(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidStorageError(f"modelKey.storage_params must be an object, not {type(value).__name__}")
    for name, entry in value.items():
        if not isinstance(entry, str):
            raise InvalidStorageError(f"modelKey.storage_params[{name!r}] must be a string, not {type(entry).__name__}")
    return value


def _size(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidStorageError("modelKey.disk_size_bytes must be a whole number of bytes, 0 or more")
    return value
