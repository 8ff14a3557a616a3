"""What a model answers, and how it refuses, brought into the protocol's plain form.

Stock MLServer marks each numeric output with the content type it has anyway, which clients of other servers do not
know, and answers requests that do not fit the model with "internal error".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError, MLServerError
from mlserver.model import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput

_TEXT: Final = "BYTES"
_LIBRARIES: Final = ("mlserver_sklearn.", "mlserver_xgboost.", "mlserver_lightgbm.", "mlserver_mlflow.")
"""Packages that hand inputs straight to a library, which checks them."""
_REFUSALS: Final = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What those libraries raise for inputs and outputs a model does not have; `LightGBMError` is a plain exception."""


def asks_content_type(payload: InferenceRequest) -> bool:
    """Whether the client names a content type anywhere: then it reads those of the answer as well."""
    tensors = [payload, *payload.inputs, *(payload.outputs or [])]
    return any(tensor.parameters is not None and tensor.parameters.content_type for tensor in tensors)


def without_default_content_types(response: InferenceResponse) -> InferenceResponse:
    """Drops an output's content type where it is the one every numeric tensor has."""
    for output in response.outputs:
        parameters = output.parameters
        if parameters is None or datatype_of(output) == _TEXT or parameters.content_type != NumpyCodec.ContentType:
            continue
        kept = {name: value for name, value in parameters if name != "content_type" and value is not None}
        output.parameters = type(parameters)(**kept) if kept else None
    return response


def refusal(model: MLModel, payload: InferenceRequest, error: Exception) -> MLServerError | None:
    """The client's error that made a model fail, if it was the client's."""
    if isinstance(error, MLServerError):
        return None
    for tensor in payload.inputs:
        if fault := _shape_fault(tensor):
            return InferenceError(fault)
    if not f"{type(model).__module__}.".startswith(_LIBRARIES):
        return None
    if isinstance(error, _REFUSALS) or type(error).__name__ == "LightGBMError":
        return InferenceError(f"the request does not fit model {model.name!r}: {error}")
    return None


def datatype_of(tensor: Any) -> str:
    """Its datatype's name; gRPC requests hold it as text, others as an enumeration."""
    return str(getattr(tensor.datatype, "value", tensor.datatype))


def _shape_fault(tensor: RequestInput) -> str | None:
    if datatype_of(tensor) == _TEXT or any(size < 0 for size in tensor.shape):
        return None
    data = getattr(tensor.data, "root", tensor.data)
    given, needed = _count(data), math.prod(tensor.shape)
    if given == needed:
        return None
    return f"input {tensor.name!r}: its shape {list(tensor.shape)} needs {needed} values, its data has {given}"


def _count(data: Any) -> int:
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        return 1
    return sum(_count(item) if isinstance(item, list | tuple) else 1 for item in data)
