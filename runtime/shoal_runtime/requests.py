"""What a load request declares: `mmesh.LoadModelRequest` parsed and checked before anything is attempted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from shoal_runtime.drivers.base import Artifact
from shoal_runtime.errors import InvalidModelError
from shoal_runtime.layout.options import split_options
from shoal_runtime.storage import ModelKey, PulledModel, PullRequest, parse_model_key

MAX_ID_CHARACTERS: Final = 1000
MAX_FORMAT_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class DeclaredModel:
    """A model as the mesh declares it."""

    model_id: str
    format: str
    pull: PullRequest
    options: dict[str, str]
    model_type: str
    model_key: str

    @property
    def disk_bytes(self) -> int | None:
        """The size on disk, if the key says it."""
        return self.pull.key.disk_size_bytes

    def artifact(self, pulled: PulledModel) -> Artifact:
        """The model once its files are here."""
        return Artifact(
            model_id=self.model_id,
            path=pulled.path,
            disk_bytes=pulled.disk_bytes,
            format=self.format,
            model_type=self.model_type,
            model_key=self.model_key,
            schema_path=pulled.schema_path,
            options=self.options,
        )


def checked_id(model_id: str) -> str:
    """The id, if it can be one.

    Raises:
        InvalidModelError: it is empty, too long or holds control characters.
    """
    if not model_id:
        raise InvalidModelError("modelId is empty; name the model")
    if len(model_id) > MAX_ID_CHARACTERS:
        raise InvalidModelError(f"modelId has {len(model_id)} characters; at most {MAX_ID_CHARACTERS} are possible")
    if not model_id.isprintable():
        raise InvalidModelError("modelId holds control characters")
    return model_id


def declared(request: Any) -> DeclaredModel:
    """What a `LoadModelRequest` or `PredictModelSizeRequest` declares.

    Raises:
        InvalidModelError, InvalidStorageError: a field is wrong; the message names it.
    """
    model_id = checked_id(request.modelId)
    key = parse_model_key(request.modelKey)
    params, options = split_options(key.storage_params)
    key = replace(key, storage_params=params)
    return DeclaredModel(
        model_id=model_id,
        format=format_of(key, request.modelType),
        pull=PullRequest(model_id=model_id, model_path=request.modelPath, key=key),
        options=options,
        model_type=request.modelType,
        model_key=request.modelKey,
    )


def format_of(key: ModelKey, model_type: str) -> str:
    """The name of the model format: the key's `model_type` wins over the request's.

    The latter is a label string such as `mt:sklearn:1|pv:grpc-v2` when the mesh was told no more, or a plain name.

    Raises:
        InvalidModelError: `model_type` has no usable name.
    """
    named = key.model_type.get("name", "") if isinstance(key.model_type, dict) else key.model_type
    if not isinstance(named, str | None):
        raise InvalidModelError("modelKey.model_type.name must be a string")
    text = (named or model_type).partition("|")[0].lower()
    if text.startswith("mt:"):
        text = text.removeprefix("mt:")
    elif text.startswith("rt:"):
        text = ""
    name = text.partition(":")[0].strip()
    if len(name) > MAX_FORMAT_CHARACTERS:
        raise InvalidModelError(f"the model type has {len(name)} characters; at most {MAX_FORMAT_CHARACTERS} are read")
    return name
