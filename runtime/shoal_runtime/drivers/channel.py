"""A gRPC connection to a model server in the same pod: quick to reconnect, and it tells when the connection broke."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from shoal_runtime.drivers.base import Loss
from shoal_runtime.errors import NotReadyError, ServerError, SilentError

CALL_SECONDS = 10.0
"""Limit of calls that only ask."""
PROBE_SECONDS = 5.0
"""Between two looks at a connected server."""
LOOK_SECONDS = 1.0
"""Between two looks at how long a server has been silent."""
PROBE_LIMIT_SECONDS = 86_400.0

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
            NotReadyError: the server cannot be reached; SilentError: it did not answer in time.
            ServerError: it answered with an error.
        """
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.UNAVAILABLE:
                raise NotReadyError(f"{self._name} at {self._target} does not answer: {details}") from None
            if code is grpc.StatusCode.DEADLINE_EXCEEDED and seconds is not None:
                raise SilentError(f"{self._name} at {self._target} did not answer within {seconds:g} s") from None
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

    async def lost(self, live: Any, request: Any, hangs: Callable[[float], bool]) -> Loss:
        """Waits until the connection breaks or the server hangs. `live` is a method that asks next to nothing.

        `hangs` is asked with the seconds for which the server has been silent.
        """
        broken = asyncio.ensure_future(self.broken())
        try:
            while True:
                await asyncio.wait([broken], timeout=PROBE_SECONDS)
                if broken.done():
                    return Loss(f"the connection to {self._name} at {self._target} broke")
                if loss := await self._probed(live, request, hangs, broken):
                    return loss
        finally:
            broken.cancel()

    async def _probed(
        self, live: Any, request: Any, hangs: Callable[[float], bool], broken: asyncio.Future[None]
    ) -> Loss | None:
        # A pause of the whole machine is no silence of the server, so that looks are counted and not only the time.
        silent, looked = 0.0, time.monotonic()
        probe = asyncio.ensure_future(self.call(live, request, PROBE_LIMIT_SECONDS))
        try:
            while True:
                await asyncio.wait([broken, probe], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    return None
                if probe.done():
                    break
                silent += min(time.monotonic() - looked, 2 * LOOK_SECONDS)
                looked = time.monotonic()
                if hangs(silent):
                    return Loss(f"{self._name} at {self._target} has not answered for {silent:.0f} s", silent)
            probe.result()
        except NotReadyError as error:
            return Loss(str(error))
        except ServerError:
            # An answer, if not a good one.
            return None
        finally:
            probe.cancel()
        return None

    async def answers(self, live: Any, request: Any) -> bool:
        """Whether the server answers now."""
        try:
            await self.call(live, request, PROBE_SECONDS)
        except NotReadyError:
            return False
        except ServerError:
            return True
        return True

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        await self.channel.close()
