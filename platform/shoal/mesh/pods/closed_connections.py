"""Calls of pods that may leave meanwhile: the mesh closes its connection then, which calls notice in odd ways."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc.aio


class PodLeftError(Exception):
    """The mesh closed its connection to the pod."""


@contextmanager
def pod_may_leave() -> Iterator[None]:
    """Around a call. Raises PodLeftError if the connection is closed before or under it.

    Closing a gRPC channel cancels its calls, which whoever awaits one sees as being cancelled itself.
    """
    try:
        yield
    except grpc.aio.UsageError:
        raise PodLeftError from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        raise PodLeftError from None
