"""Sample requests from the package a model was published in, on a claim or in S3."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from shoal.mesh.api import ModelInfo
from shoal.oip.rest import to_protobuf
from shoal.package.errors import InvalidPackage, PackageError, PackageNotFound
from shoal.package.gate import package_at, store_of
from shoal.resources.source import ModelSource
from shoal.resources.storage import Storage

log = logging.getLogger(__name__)

MAX_SAMPLES: Final = 100
"""Samples of one package that are used."""


class PackagedSamples:
    """A `SampleReader`.

    Args:
        entries: of the Secret `storage-config`, as it is now.
        claims: the folder with one folder a PersistentVolumeClaim; None: claims cannot be read here.
    """

    def __init__(self, entries: Callable[[], Mapping[str, Storage]], claims: Path | None) -> None:
        self._entries = entries
        self._claims = claims

    async def __call__(self, info: ModelInfo) -> Sequence[bytes]:
        """See `SampleReader`. Models that are in no package have none."""
        return await asyncio.to_thread(_read, source_of(info), self._entries(), self._claims)


def _read(source: ModelSource, entries: Mapping[str, Storage], claims: Path | None) -> Sequence[bytes]:
    try:
        package, _ = package_at(store_of(source, entries, claims), source.path)
        samples = package.samples()
    except (InvalidPackage, PackageNotFound) as error:
        log.debug("no samples at %s: %s", source.path, error)
        return ()
    except PackageError as error:
        raise OSError(str(error)) from error
    return tuple(_message(sample.body()) for sample in islice(samples.samples, MAX_SAMPLES)) if samples else ()


def _message(body: Mapping[str, Any]) -> bytes:
    message: bytes = to_protobuf(json.dumps(body).encode(), None, "").SerializeToString()
    return message


def source_of(info: ModelInfo) -> ModelSource:
    """Where a model's files are, from what its pods are told (the inverse of `revision.model_key`).

    Models that clients register through `mmesh.ModelMesh` may have any key; what is not understood of one is left out.
    """
    try:
        key = json.loads(info.key)
    except ValueError:
        key = None
    key = key if isinstance(key, dict) else {}
    storage_key, parameters = key.get("storage_key"), key.get("storage_params")
    return ModelSource(
        format="",
        storage_key=storage_key if isinstance(storage_key, str) else None,
        path=info.path,
        parameters={str(name): str(value) for name, value in parameters.items()}
        if isinstance(parameters, dict)
        else {},
    )
