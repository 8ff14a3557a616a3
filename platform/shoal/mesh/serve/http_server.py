"""Runs an ASGI application inside the mesh's event loop, without uvicorn taking over signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette

from shoal.mesh.serve.settings import TlsFiles


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process handles signals itself."""
        yield


@contextlib.asynccontextmanager
async def serving(
    app: Starlette, host: str, port: int, *, grace: float, tls: TlsFiles | None = None
) -> AsyncIterator[int]:
    """Serve `app` while the block runs; yields the port (a free one for port 0).

    Raises:
        OSError: the port is taken, or a file of `tls` cannot be read.
    """
    # With the protocol named, asyncio turns off the delay of small writes.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=int(grace),
        ssl_certfile=tls.certificate if tls else None, ssl_keyfile=tls.key if tls else None,
    )  # fmt: skip
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        if task.done():
            await task  # such as: no certificate
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()
