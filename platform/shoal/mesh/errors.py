"""The one error a request to the mesh ends with; gRPC and REST answer it each in their way."""

from __future__ import annotations

import grpc


class RequestError(Exception):
    """A request cannot be served.

    Attributes:
        code: gRPC status; REST derives its own from it.
        message: what is wrong, for the client.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
