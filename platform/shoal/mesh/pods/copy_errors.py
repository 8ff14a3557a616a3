"""Why a copy did not answer a request, so that another is tried."""

from __future__ import annotations

import grpc
import grpc.aio

from shoal.core.actions import Forward
from shoal.mesh.errors import RequestError


class CopyGoneError(Exception):
    """The pod says it does not have the model, or the model itself answers as if.

    Attributes:
        answer: what the client gets in the latter case.
    """

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, message: str, answer: Exception | None = None) -> None:
        super().__init__(message)
        self.answer = answer


class PodUnreachableError(Exception):
    """The pod did not take the request."""

    code = grpc.StatusCode.UNAVAILABLE


def translated(error: grpc.aio.AioRpcError, forward: Forward) -> Exception | None:
    """What a model server's error means for the request: try elsewhere, or None: tell the client.

    The ways in which servers say "I do not have this model" are those ModelMesh knows: NOT_FOUND, Triton's UNAVAILABLE
    "Request for unknown model", MLServer's INVALID_ARGUMENT "Model ... not found".
    """
    code, details = error.code(), error.details() or ""
    lowered = details.lower()
    gone = (
        code is grpc.StatusCode.NOT_FOUND
        or (code is grpc.StatusCode.UNAVAILABLE and "request for unknown model" in lowered)
        or (code is grpc.StatusCode.INVALID_ARGUMENT and lowered.startswith("model ") and "not found" in lowered)
    )
    if gone:
        return CopyGoneError(f"pod {forward.pod} does not have {forward.revision}", RequestError(code, details))
    if code is grpc.StatusCode.UNAVAILABLE:
        return PodUnreachableError(f"pod {forward.pod}: {details or 'unavailable'}")
    return None
