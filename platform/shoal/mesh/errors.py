"""The one error a request to the mesh ends with; gRPC and REST answer it each in their way."""

from __future__ import annotations

import grpc


class RequestError(Exception):
    """A request cannot be served.

    Attributes:
        code: gRPC status; REST derives its own from it.
        message: what is wrong, for the client.
        of_request: no model could have taken the request, so it says nothing of this one.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, of_request: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.of_request = of_request
