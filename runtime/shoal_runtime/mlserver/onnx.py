"""Serves ONNX models with ONNX Runtime: one thread a session, as hundreds of sessions share a pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor, RequestInput, ResponseOutput
from mlserver.utils import get_model_uri
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from shoal.oip.datatypes import OF_ONNX
from shoal_runtime.mlserver.answers import datatype_of
from shoal_runtime.mlserver.values import TEXT, TYPES

DATATYPES: Final[dict[str, tuple[str, Any]]] = {
    f"tensor({onnx.lower()})": (name, TYPES.get(name, np.dtype(np.object_))) for onnx, name in OF_ONNX.items()
}
"""ONNX tensor types with the protocol's datatype and numpy's."""
_BAD_INPUT: Final = (ort_errors.InvalidArgument, ValueError)


class OnnxModel(MLModel):  # type: ignore[misc]
    """One ONNX model. Inputs are matched by name."""

    load_off_loop: ClassVar[bool] = True

    async def load(self) -> bool:
        """Opens a session on `model.onnx`, or on the file `parameters.uri` names."""
        uri = await get_model_uri(self._settings, wellknown_filenames=["model.onnx"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        self._types = {tensor.name: DATATYPES.get(tensor.type) for tensor in self._session.get_inputs()}
        self._outputs = [tensor.name for tensor in self._session.get_outputs()]
        self.inputs = self.settings.inputs or _metadata(self._session.get_inputs())
        self.outputs = self.settings.outputs or _metadata(self._session.get_outputs())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Runs the session.

        Raises:
            InferenceError: the inputs or requested outputs do not fit the model.
        """
        wanted = [output.name for output in payload.outputs or []] or self._outputs
        if unknown := sorted(set(wanted) - set(self._outputs)):
            raise InferenceError(f"there is no output {unknown[0]!r}; there are {', '.join(self._outputs)}")
        feed = self._feed(payload.inputs)
        try:
            results = self._session.run(wanted, feed)
        except _BAD_INPUT as error:
            raise InferenceError(f"the inputs do not fit the model: {error}") from None
        outputs = [_encode(name, result) for name, result in zip(wanted, results, strict=True)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

    def _feed(self, inputs: Sequence[RequestInput]) -> dict[str, Any]:
        return {tensor.name: _decode(tensor, self._types.get(tensor.name)) for tensor in inputs}


def _decode(tensor: RequestInput, datatype: tuple[str, Any] | None) -> Any:
    if datatype is None:
        raise InferenceError(f"input {tensor.name!r} is not a tensor of a type the protocol has")
    if datatype[0] == TEXT:
        return np.array(StringCodec.decode_input(tensor), dtype=np.object_).reshape(tensor.shape)
    given = np.asarray(NumpyCodec.decode_input(tensor))
    if given.dtype == datatype[1]:
        return np.ascontiguousarray(given)
    name = f"input {tensor.name!r} is {datatype_of(tensor)}"
    if not np.can_cast(given.dtype, datatype[1], "same_kind"):
        raise InferenceError(f"{name}, but the model takes {datatype[0]}; values are not converted to another kind")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(given, dtype=datatype[1])
    if (array.dtype.kind in "iu" and (array != given).any()) or (np.isinf(array) & np.isfinite(given)).any():
        raise InferenceError(f"{name} with values beyond those of {datatype[0]}, which the model takes")
    return array


def _encode(name: str, result: Any) -> ResponseOutput:
    """Converters of scikit-learn models put probabilities in a list of maps; they become a table in key order."""
    if isinstance(result, list) and result and isinstance(result[0], dict):
        result = np.array([[row[key] for key in sorted(row)] for row in result])
    array = np.asarray(result)
    if array.dtype.kind in "OUS":
        encoded: ResponseOutput = StringCodec.encode_output(name, array.ravel().tolist())
        encoded.shape = list(array.shape)
        return encoded
    return NumpyCodec.encode_output(name, array)


def _metadata(tensors: Sequence[Any]) -> list[MetadataTensor]:
    """What `ModelMetadata` tells of tensors; sizes that vary are -1."""
    return [
        MetadataTensor(
            name=tensor.name,
            datatype=DATATYPES[tensor.type][0],
            shape=[size if isinstance(size, int) else -1 for size in tensor.shape],
        )
        for tensor in tensors
        if tensor.type in DATATYPES
    ]
