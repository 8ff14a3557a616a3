"""The adapter's small HTTP side: health, and `/prestop`, which holds a stopping pod until the mesh let it go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

import uvicorn

from shoal_runtime.adapter import Adapter
from shoal_runtime.board import Status


class HookApp:
    """An ASGI application of three GET routes, for the kubelet."""

    def __init__(self, adapter: Adapter, max_seconds: float) -> None:
        self._adapter = adapter
        self._max_seconds = max_seconds

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        status, text = 404, "there are /prestop, /readyz and /healthz"
        if scope["method"] not in ("GET", "HEAD"):
            status, text = 405, "use GET"
        elif scope["path"] == "/prestop":
            status, text = 200, await self._prestop()
        elif scope["path"] == "/healthz":
            status, text = 200, "ok"
        elif scope["path"] == "/readyz":
            view = self._adapter.board.view
            status, text = (200, "ok") if view.status is Status.READY else (503, view.message)
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": f"{text}\n".encode()})

    async def _prestop(self) -> str:
        self._adapter.stopping = True
        try:
            async with asyncio.timeout(self._max_seconds):
                await self._adapter.released.wait()
        except TimeoutError:
            return f"not released within {self._max_seconds:g} s; going anyway"
        return "released"


class HookServer(uvicorn.Server):
    """Serves `HookApp`; signals stay the adapter's."""

    def __init__(self, app: HookApp, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            lifespan="off",
            ws="none",
            log_level="warning",
            access_log=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leaves signals alone."""
        yield
