"""Which model a gRPC request names: its headers first, else its message. Rules of ModelMesh's external interface."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import grpc

from shoal.core.types import RouteKey
from shoal.gateway.names import CANARY_HEADER, REVISION_HEADER, asked_for
from shoal.mesh.errors import RequestError
from shoal.mesh.wire import MalformedMessageError, read_string
from shoal_protos.inference import SERVICE

ID_PATHS: Final[dict[str, tuple[int, ...]]] = {
    f"/{SERVICE}/ModelInfer": (1,),
    f"/{SERVICE}/ModelStreamInfer": (1,),
    f"/{SERVICE}/ModelMetadata": (1,),
    "/tensorflow.serving.PredictionService/Predict": (1, 1),
    "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions": (1,),
}
"""Where methods carry the model's name, as in upstream's data plane configuration. Others need a header."""

_ENDPOINT_HEADERS: Final = ("mm-vmodel-id", "mm-vmodel-id-bin")
_REVISION_HEADERS: Final = ("mm-model-id", "mm-model-id-bin")
_NOT_FORWARDED: Final = frozenset({"content-type", "user-agent", "tas-model-id", "te", "host", "content-length"})
_NOT_FORWARDED_PREFIXES: Final = ("mm-", "grpc-", ":", "x-envoy-", "x-shoal-", "x-forwarded-")

Metadata = Iterable[tuple[str, str | bytes]]


def key_from_headers(headers: Metadata) -> RouteKey | None:
    """What the headers name, or None. `mm-revision` goes before anything else, so that it can be added to any request.

    Only what the gateway says goes before that: copies that failed have had the request by the name of their revision.

    Raises:
        RequestError: they name nothing, or more than one thing.
    """
    headers = tuple(headers)
    if key := asked_for(headers):
        return key
    found: dict[str, str] = {}
    revision = ""
    for name, value in headers:
        if name == REVISION_HEADER:
            revision = _text(name, value)
        if name in _ENDPOINT_HEADERS or name in _REVISION_HEADERS:
            text = _text(name, value)
            kind = "mm-vmodel-id" if name in _ENDPOINT_HEADERS else "mm-model-id"
            if found.setdefault(kind, text) != text:
                raise RequestError(
                    grpc.StatusCode.INVALID_ARGUMENT, f"header {kind} is there twice with different values"
                )
    if revision:
        return RouteKey(revision, is_revision=True)
    if len(found) > 1:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT, "must include only one of the headers mm-model-id and mm-vmodel-id"
        )
    for kind, text in found.items():
        return RouteKey(text, is_revision=kind == "mm-model-id")
    return None


def _text(name: str, value: str | bytes) -> str:
    if isinstance(value, str) and name.endswith("-bin"):
        value = _decoded(name, value)  # as HTTP/1 has it; gRPC's libraries decode it themselves
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not text:
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"header {name} is empty: name a model in it")
    return text


def _decoded(name: str, value: str) -> bytes:
    try:
        return b64decode(value + "=" * (-len(value) % 4), validate=True)
    except ValueError:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT, f"header {name} must be the base64 of a name in UTF-8"
        ) from None


def steered(key: RouteKey, headers: Metadata) -> RouteKey:
    """The same key, of the revision an endpoint's rollout leads to if the headers ask for that one."""
    canary = not key.is_revision and any(name == CANARY_HEADER and value == "always" for name, value in headers)
    return replace(key, canary=True) if canary else key


def key_from_message(method: str, message: bytes) -> RouteKey:
    """What a message names.

    Raises:
        RequestError: the method carries no name, or the message none, or it is malformed.
    """
    path = ID_PATHS.get(method)
    if path is None and method.startswith(f"/{SERVICE}/"):
        raise RequestError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"no {method.rpartition('/')[2]} here; a model's server may have it: "
            "name the model in a header mm-vmodel-id",
        )
    if path is None:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT, f"{method[1:]}: must include the header mm-vmodel-id or mm-model-id"
        )
    try:
        name = read_string(message, path)
    except MalformedMessageError as error:
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"malformed request: {error}") from error
    if not name:
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "the request names no model: set model_name")
    return RouteKey(name)


def forwarded_headers(headers: Metadata, revision: str) -> list[tuple[str, str | bytes]]:
    """Headers for the model server: the client's own, and which model is meant (`mm-model-id` and its `-bin` form)."""
    kept = [
        (name, value)
        for name, value in headers
        if name not in _NOT_FORWARDED and not name.startswith(_NOT_FORWARDED_PREFIXES)
    ]
    kept.append(("mm-model-id-bin", revision.encode()))
    if revision.isascii() and revision.isprintable():
        kept.append(("mm-model-id", revision))
    return kept
