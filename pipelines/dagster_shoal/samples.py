"""The golden set and the signature of a model, made from its data and its own answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dagster_shoal.model import Tensors
from shoal.oip.datatypes import of_array
from shoal.package.manifest import Signature, TensorSpec
from shoal.package.samples import Samples, samples_of


def signature_of(inputs: Tensors, outputs: Tensors) -> Signature:
    """Names, datatypes and shapes; the first dimension, rows, may have any size.

    Raises:
        ValueError: an array's type has no counterpart in the protocol.
    """
    return Signature(inputs=_specs(inputs), outputs=_specs(outputs))


def _specs(tensors: Tensors) -> list[TensorSpec]:
    documents = [
        {"name": name, "datatype": datatype_of(name, tensor), "shape": [-1, *tensor.shape[1:]]}
        for name, tensor in tensors.items()
    ]
    return [TensorSpec.model_validate(document) for document in documents]


def golden_set(inputs: Tensors, outputs: Tensors) -> Samples:
    """One request a row, with its answer.

    Raises:
        InvalidPackage: the rows cannot be written as requests.
        ValueError: an array's type has no counterpart in the protocol.
    """
    count = len(next(iter(inputs.values())))
    return samples_of(
        [
            {
                "request": {"inputs": _row(inputs, row)},
                "response": {"outputs": _row(outputs, row)},
            }
            for row in range(count)
        ]
    )


def _row(tensors: Tensors, row: int) -> list[dict[str, Any]]:
    return [_tensor(name, tensor[row : row + 1]) for name, tensor in tensors.items()]


def _tensor(name: str, array: NDArray[Any]) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype_of(name, array),
        "shape": list(array.shape),
        "data": array.ravel().tolist(),
    }


def datatype_of(name: str, array: NDArray[Any]) -> str:
    """The protocol's name for an array's type.

    Raises:
        ValueError: it has none.
    """
    datatype = of_array(array)
    if datatype is None:
        raise ValueError(f"{name}: arrays of {array.dtype} have no datatype in the inference protocol; convert it")
    return datatype


def arrays(outputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """What `predict` returned, as arrays."""
    return {name: np.asarray(values) for name, values in outputs.items()}
