"""Datasets as files: arrays without pickles, named by a hash of their content, which is the asset's data version."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dagster_shoal.model import Dataset, Rows

_PARTS = ("train", "test")


def save_dataset(data: Dataset, file: Path) -> None:
    """Write a dataset; numbers, booleans, dates and fixed-width texts are fine, Python objects are not.

    Raises:
        ValueError: an array holds Python objects.
    """
    arrays = _arrays(data)
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise ValueError(f"{', '.join(objects)}: holds Python objects; convert it, for example by astype(str)")
    np.savez_compressed(file, allow_pickle=False, **arrays)


def load_dataset(file: Path) -> Dataset:
    """What `save_dataset` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        parts = {part: _rows(archive, part) for part in _PARTS}
    return Dataset(parts["train"], parts["test"])


def _rows(archive: Any, part: str) -> Rows:
    start = f"{part}/inputs/"
    inputs = {name.removeprefix(start): archive[name] for name in archive.files if name.startswith(start)}
    return Rows(inputs, archive[f"{part}/target"])


def fingerprint(data: Dataset) -> str:
    """SHA-256 over names, types, shapes and bytes of all arrays."""
    digest = hashlib.sha256()
    for name, array in sorted(_arrays(data).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _arrays(data: Dataset) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for part, rows in zip(_PARTS, (data.train, data.test), strict=True):
        found |= {f"{part}/inputs/{name}": np.asarray(tensor) for name, tensor in rows.inputs.items()}
        found[f"{part}/target"] = np.asarray(rows.target)
    return found
