"""Whether a request does not fit a model, or the model is at fault.

A request that does not fit is refused (400, INVALID_ARGUMENT). What else a model raises is a fault of the model, unless
it is an `MLServerError`, with which a model says itself what is wrong. Libraries raise the same `ValueError` for both:
what tells them apart is where it comes from, since they check inputs in places of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Final

import numpy as np
from mlserver.codecs.utils import get_decoded, has_decoded
from mlserver.errors import InferenceError, MLServerError
from mlserver.model import MLModel
from mlserver.types import InferenceRequest, RequestInput

from shoal.oip.tensors import flat
from shoal_runtime.mlserver.answers import datatype_of
from shoal_runtime.mlserver.faults import told
from shoal_runtime.mlserver.values import TEXT, ValueFaultError, check_count

_INTERNAL: Final = 500
_MODEL: Final = "mlserver.model"
_DECODING: Final = frozenset({"decode", "decode_request"})
_ENCODING: Final = frozenset({"encode", "encode_response"})
_SCHEMAS: Final = "mlflow.models.utils"
"""Where MLflow holds inputs against a model's signature."""
_CHECKS: Final = ("sklearn.utils.", "sklearn.preprocessing.", "sklearn.feature_extraction.", "sklearn.compose.")
"""Modules of scikit-learn that look at values which come from outside."""
_COLUMN_CHECKS: Final = frozenset({"_check_n_features", "_check_feature_names"})
_PIPELINE: Final = "sklearn.pipeline"
_TEXTS: Final = frozenset("OUS")
"""Kinds of numpy arrays that hold text."""
_RUNTIMES: Final = ("mlserver_sklearn.", "mlserver_xgboost.", "mlserver_lightgbm.")


def check_fit(model: MLModel, payload: InferenceRequest) -> None:
    """Refuses inputs that the model does not declare, and text of another number of values than its shape says.

    Raises:
        InferenceError: such an input.
    """
    names = [tensor.name for tensor in model.inputs or ()]
    if names and not _made_up(names):
        for tensor in payload.inputs:
            if tensor.name not in names:
                raise InferenceError(f"there is no input {tensor.name!r}; the model has {_listed(names)}")
    for tensor in payload.inputs:
        if datatype_of(tensor) == TEXT and not _has_codec(model, payload, tensor):
            data = getattr(tensor.data, "root", tensor.data)
            try:
                check_count(tensor.shape, sum(1 for _ in flat([data])))
            except ValueFaultError as error:
                raise InferenceError(f"input {tensor.name!r}: {error}") from None


def outputs_asked(payload: InferenceRequest) -> tuple[str, ...]:
    """The outputs a client names. MLServer's runtimes add their own to the request, so this is asked before."""
    return tuple(output.name for output in payload.outputs or ())


def refusal(
    model: MLModel, payload: InferenceRequest, asked: tuple[str, ...], error: Exception
) -> MLServerError | None:
    """What to raise in place of an error of a model; None: the error itself."""
    frames = list(_frames(error))
    if isinstance(error, MLServerError):
        return MLServerError(told(error), _INTERNAL) if _within(frames, _MODEL, _ENCODING) else None
    if _within(frames, _MODEL, _DECODING) or any(_module(frame) == _SCHEMAS for frame in frames):
        return InferenceError(f"the request cannot be read for model {model.name!r}: {error}")
    if f"{type(model).__module__}.".startswith(_RUNTIMES) and _misfit(model, payload, asked, frames, error):
        words = str(error).partition("\nStack trace")[0]
        return InferenceError(f"the request does not fit model {model.name!r}: {words}")
    return None


def _misfit(
    model: MLModel, payload: InferenceRequest, asked: tuple[str, ...], frames: list[FrameType], error: Exception
) -> bool:
    if isinstance(error, AttributeError) and any(f"has no attribute {name!r}" in str(error) for name in asked):
        return True  # an output of the client's choice, which this kind of model does not have
    last = frames[-1]
    if _module(last).startswith(_CHECKS):
        return not (last.f_code.co_name in _COLUMN_CHECKS and _in_a_later_step(frames))
    columns = _columns(getattr(model, "_model", None))
    if columns is None or (not isinstance(error, ValueError | TypeError) and type(error).__name__ != "LightGBMError"):
        return False
    rows = get_decoded(payload) if has_decoded(payload) else get_decoded(payload.inputs[0])
    return isinstance(rows, np.ndarray) and (rows.shape[1:] != (columns,) or rows.dtype.kind in _TEXTS)


def _columns(library_model: Any) -> int | None:
    """How many columns a model of XGBoost or LightGBM takes."""
    if type(library_model).__module__.startswith("lightgbm."):
        return int(library_model.num_feature())
    if type(library_model).__module__.startswith("xgboost."):
        return int(library_model.n_features_in_)
    return None


def _in_a_later_step(frames: Iterable[FrameType]) -> bool:
    """Whether a pipeline's own step made the columns that the next one refuses."""
    pipelines = (frame.f_locals for frame in frames if _module(frame) == _PIPELINE)
    return any("Xt" in seen and seen["Xt"] is not seen.get("X") for seen in pipelines)


def _frames(error: Exception) -> Iterator[FrameType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _within(frames: Iterable[FrameType], module: str, functions: frozenset[str]) -> bool:
    return any(frame.f_code.co_name in functions and _module(frame) == module for frame in frames)


def _made_up(names: list[str]) -> bool:
    """Whether MLServer numbered the inputs of a model of MLflow, which has no names for them: then any will do."""
    return names == [f"input-{number}" for number in range(len(names))]


def _has_codec(model: MLModel, payload: InferenceRequest, tensor: RequestInput) -> bool:
    """Whether a content type says how to read the values: then several may be in one, or the other way round."""
    places = (tensor, payload, model._inputs_index.get(tensor.name), model.settings)
    return any(place is not None and place.parameters and place.parameters.content_type for place in places)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))
