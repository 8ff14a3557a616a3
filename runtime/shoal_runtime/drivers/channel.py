"""A gRPC connection to a model server in the same pod: quick to reconnect, and it tells when the connection broke."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from shoal_runtime.errors import NotReadyError, ServerError

CALL_SECONDS = 10.0
"""Limit of calls that only ask."""
PROBE_SECONDS = 5.0
"""Between two looks at a connected server."""
HANG_SECONDS = 120.0
"""A server that has not answered for so long counts as gone: a load that blocks it is shorter."""

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


class ServerChannel:
    """One connection. Errors of calls come out as the adapter's own."""

    def __init__(self, target: str, name: str) -> None:
        self._target = target
        self._name = name
        self.channel = grpc.aio.insecure_channel(target, options=_OPTIONS)

    async def call(self, method: Any, request: Any, seconds: float | None = CALL_SECONDS) -> Any:
        """Calls a unary method; `seconds` None: as long as it takes.

        Raises:
            NotReadyError: the server cannot be reached or did not answer in time.
            ServerError: it answered with an error.
        """
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNAVAILABLE:
                raise NotReadyError(f"{self._name} at {self._target} does not answer: {details}") from None
            if code is grpc.StatusCode.DEADLINE_EXCEEDED and seconds is not None:
                raise NotReadyError(f"{self._name} at {self._target} did not answer within {seconds:g} s") from None
            words = details or f"{code.name} without a word of why; look into the log of the model server"
            raise ServerError(f"{self._name}: {words}", code) from None

    async def broken(self) -> None:
        """Waits until a connection that is up now is not any more."""
        state = self.channel.get_state(try_to_connect=True)
        while state is grpc.ChannelConnectivity.CONNECTING:
            await self.channel.wait_for_state_change(state)
            state = self.channel.get_state(try_to_connect=True)
        while state is grpc.ChannelConnectivity.READY:
            await self.channel.wait_for_state_change(state)
            state = self.channel.get_state(try_to_connect=True)

    async def lost(self, live: Any, request: Any) -> str:
        """Waits until the connection breaks or the server hangs. `live` is a method that asks next to nothing."""
        broken = asyncio.ensure_future(self.broken())
        try:
            while True:
                done, _ = await asyncio.wait([broken], timeout=PROBE_SECONDS)
                if done:
                    return f"the connection to {self._name} at {self._target} broke"
                try:
                    await self.call(live, request, HANG_SECONDS)
                except NotReadyError as error:
                    return str(error)
        finally:
            broken.cancel()

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        await self.channel.close()
