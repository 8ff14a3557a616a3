"""Which answers of a revision count as its errors: not those to requests that no model could take."""

from __future__ import annotations

import contextlib

import grpc
import grpc.aio
import pytest

from shoal.core.actions import Forward
from shoal.core.types import PodId, RevisionId, RouteKey
from shoal.mesh.checks.forwarded import Attempt
from shoal.mesh.errors import RequestError

REFUSED = grpc.StatusCode.INVALID_ARGUMENT
MARK = grpc.aio.Metadata(("x-shoal-fault", "request"))


def counted(error: Exception | None = None, **answer: object) -> list[bool]:
    """What is counted of one attempt."""
    errors: list[bool] = []

    def count(key: RouteKey, revision: str, seconds: float, *, error: bool) -> None:
        errors.append(error)

    attempt = Attempt(count, RouteKey("digits"), Forward(PodId("pod"), RevisionId("digits-1")))
    with contextlib.suppress(RequestError, grpc.aio.AioRpcError), attempt:
        for name, value in answer.items():
            setattr(attempt, name, value)
        if error is not None:
            raise error
    return errors


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (grpc.aio.AioRpcError(REFUSED, grpc.aio.Metadata(), grpc.aio.Metadata()), True),
        (grpc.aio.AioRpcError(REFUSED, grpc.aio.Metadata(), MARK), False),
        (RequestError(REFUSED, "no"), True),
        (RequestError(REFUSED, "no", of_request=True), False),
        (RequestError(grpc.StatusCode.INTERNAL, "no"), True),
    ],
)
def test_errors_of_grpc(error, charged):
    assert counted(error) == [charged]


@pytest.mark.parametrize(
    ("answer", "charged"),
    [
        ({"status": 200}, False),
        ({"status": 400}, True),
        ({"status": 400, "of_request": True}, False),
        ({"status": 500}, True),
    ],
)
def test_answers_of_http(answer, charged):
    assert counted(**answer) == [charged]
