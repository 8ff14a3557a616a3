"""Requests to warm a model up with: where they come from, and how to make one where nobody has any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from shoal.mesh.api import ModelInfo
from shoal.oip.datatypes import DATATYPES
from shoal.oip.tensors import LENGTH
from shoal_protos import inference as oip

MAX_TENSOR: Final = 16 * 1024 * 1024
"""Bytes of a tensor that is made up."""


class CannotMakeError(ValueError):
    """No request can be made up from what the model server says; the message says why."""


async def no_samples(_: ModelInfo) -> Sequence[bytes]:
    """A `SampleReader` where models come without any."""
    return ()


def made_up(metadata: Any) -> bytes:
    """A `ModelInferRequest` of zeros and empty strings from a `ModelMetadataResponse`; sizes that vary are 1.

    Raises:
        CannotMakeError: it does not name its inputs, or not in a way that can be followed.
    """
    if not metadata.inputs:
        raise CannotMakeError("the model server does not say what the inputs are")
    request = oip.ModelInferRequest()
    for tensor in metadata.inputs:
        shape = [size if size >= 0 else 1 for size in tensor.shape]
        datatype = DATATYPES.get(tensor.datatype)
        if datatype is None:
            raise CannotMakeError(f"input {tensor.name} is of an unknown datatype, {tensor.datatype!r}")
        size = (datatype.size or LENGTH.size) * math.prod(shape)
        if size > MAX_TENSOR:
            raise CannotMakeError(f"input {tensor.name} would be larger than {MAX_TENSOR} bytes")
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        request.raw_input_contents.append(bytes(size))
    message: bytes = request.SerializeToString()
    return message
