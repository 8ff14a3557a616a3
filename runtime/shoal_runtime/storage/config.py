"""Which store a model is in: the `storage-config` entry, overridden by the model's own parameters.

The rules are the puller's (ModelMesh runtime adapter): an entry named by the key must exist; without a key it is
`default_<type>`, or `default`, and may be missing; then `default_bucket`, the key's `bucket`, and the parameters, whose
names are dot-paths into the entry. Two rules are Shoal's. A `local` store's `path` comes from the Secret only, or
whoever may declare a model could read any file of the pod. So does the address of an entry that holds credentials, or
whoever may declare a model could have them sent to a server of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal_runtime.storage.errors import ArtifactNotFoundError, InvalidStorageError
from shoal_runtime.storage.types import ModelKey

MAX_ENTRY_BYTES = 1024 * 1024
_LATER = ("gcs", "azure")
SUPPORTED = ("s3", "http", "pvc", "local")
_ADDRESSES = ("url", "endpoint_url")
_CREDENTIALS = ("headers", "access_key_id", "secret_access_key", "client_certificate", "client_key")


@dataclass(frozen=True, slots=True, repr=False)
class StorageConfig:
    """One store's resolved configuration. `values` hold secrets, so it has no repr."""

    type: str
    source: str
    """How to name the configuration in errors, such as `storage-config entry 'localMinIO'`."""
    values: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"StorageConfig(type={self.type!r}, source={self.source!r})"

    def text(self, name: str) -> str | None:
        """The string at `name`, None if it is absent or empty."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "must be a string")
        return value or None

    def required(self, name: str) -> str:
        """The string at `name`."""
        value = self.text(name)
        if value is None:
            raise self.wrong(name, f"is missing; a store of type {self.type} needs it")
        return value

    def wrong(self, name: str, problem: str) -> InvalidStorageError:
        """The error that says what is wrong with `name`; never put a value into `problem`."""
        return InvalidStorageError(f"{self.source}: field '{name}' {problem}")


def resolve(key: ModelKey, config_dir: Path) -> StorageConfig:
    """The configuration a model key leads to; files are read anew each time.

    Raises:
        ArtifactNotFoundError: the key names an entry that is not there.
        InvalidStorageError: an entry or parameter is malformed, or no supported type results.
    """
    entry, source = _entry(key, config_dir)
    if entry.get("type") == "s3" and "default_bucket" in entry:
        entry.setdefault("bucket", entry["default_bucket"])
    if key.bucket and entry.get("bucket"):
        entry["bucket"] = key.bucket
    trusted_path = entry.get("path") if entry.get("type") == "local" else None
    _refuse_to_redirect(entry, key.storage_params, source)
    for name, value in sorted(key.storage_params.items()):
        _override(entry, name, value)
    kind = entry.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidStorageError(
            f"{source}: field 'type' is missing; set storage.key to an entry of the storage-config Secret, "
            f"or storage.parameters.type to one of {', '.join(SUPPORTED)}"
        )
    if kind in _LATER:
        raise InvalidStorageError(f"{kind} is not supported yet: use one of {', '.join(SUPPORTED)}")
    if kind not in SUPPORTED:
        raise InvalidStorageError(f"{source}: field 'type' is {kind!r}; supported are {', '.join(SUPPORTED)}")
    if kind == "local" and (trusted_path is None or entry.get("path") != trusted_path):
        raise InvalidStorageError(f"{source}: field 'path' of a local store is set in the storage-config Secret only")
    return StorageConfig(kind, source, entry)


def _entry(key: ModelKey, config_dir: Path) -> tuple[dict[str, Any], str]:
    wanted = key.storage_params.get("type")
    name = key.storage_key or (f"default_{wanted}" if wanted else "default")
    source = f"storage-config entry {name!r}"
    if "/" in name or "\0" in name or name in (".", ".."):
        raise InvalidStorageError(f"storage key {name!r} is not the name of an entry of the storage-config Secret")
    file = config_dir / name
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_ENTRY_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if key.storage_key is None:
            return {}, "storage parameters"
        raise ArtifactNotFoundError(f"{source} does not exist; add it to the Secret, or correct storage.key") from None
    except OSError as error:
        raise InvalidStorageError(f"{source} cannot be read: {error.strerror}") from None
    if len(content) > MAX_ENTRY_BYTES:
        raise InvalidStorageError(f"{source} is larger than {MAX_ENTRY_BYTES} bytes")
    return _object(content, source), source


def _object(content: bytes, source: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        # The parser's own message may quote the text, which holds secrets.
        raise InvalidStorageError(f"{source} is not valid JSON; it must be one object with a 'type'") from None
    if not isinstance(document, dict):
        raise InvalidStorageError(f"{source} must be a JSON object with a 'type'")
    return document


def _refuse_to_redirect(entry: Mapping[str, Any], parameters: Mapping[str, str], source: str) -> None:
    if not any(entry.get(name) for name in _CREDENTIALS):
        return
    for name in _ADDRESSES:
        if name in parameters and parameters[name] != entry.get(name):
            raise InvalidStorageError(
                f"storage.parameters.{name}: {source} holds credentials, so models may not change where they are sent; "
                f"remove this parameter, or add an entry to the Secret with this '{name}'"
            )


def _override(entry: dict[str, Any], name: str, value: str) -> None:
    *parents, leaf = name.split(".")
    if not leaf or not all(parents):
        raise InvalidStorageError(f"storage.parameters: {name!r} has an empty part")
    level = entry
    for depth, part in enumerate(parents, 1):
        level = level.setdefault(part, {})
        if not isinstance(level, dict):
            prefix = ".".join(parents[:depth])
            raise InvalidStorageError(f"storage.parameters: {name!r} goes into {prefix!r}, which is not an object")
    if leaf in level and not isinstance(level[leaf], str):
        raise InvalidStorageError(f"storage.parameters: {name!r} would replace a value that is not a string")
    level[leaf] = value
