"""What a model answers, brought into the protocol's plain form.

Stock MLServer marks each numeric output with the content type it has anyway, which clients of other servers do not
know, and writes NaN as None, which gRPC cannot hold.
"""

from __future__ import annotations

import math
from typing import Any

from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, TensorData

from shoal_runtime.mlserver.values import FLOATING, TEXT


def asks_content_type(payload: InferenceRequest) -> bool:
    """Whether the client names a content type anywhere: then it reads those of the answer as well."""
    tensors = [payload, *payload.inputs, *(payload.outputs or [])]
    return any(tensor.parameters is not None and tensor.parameters.content_type for tensor in tensors)


def without_default_content_types(response: InferenceResponse) -> InferenceResponse:
    """Drops an output's content type where it is the one every numeric tensor has."""
    for output in response.outputs:
        parameters = output.parameters
        if parameters is None or datatype_of(output) == TEXT or parameters.content_type != NumpyCodec.ContentType:
            continue
        kept = {name: value for name, value in parameters if name != "content_type" and value is not None}
        output.parameters = type(parameters)(**kept) if kept else None
    return response


def with_numbers(response: InferenceResponse) -> InferenceResponse:
    """Puts NaN back where MLServer's codec wrote None. In JSON both become `null`."""
    for output in response.outputs:
        data = getattr(output.data, "root", output.data)
        if datatype_of(output) in FLOATING and isinstance(data, list) and None in data:
            output.data = TensorData(root=[math.nan if value is None else value for value in data])
    return response


def datatype_of(tensor: Any) -> str:
    """Its datatype's name; gRPC requests hold it as text, others as an enumeration."""
    return str(getattr(tensor.datatype, "value", tensor.datatype))
