"""The service proxy: GET or POST of `.../services/NAME:PORT/proxy/PATH` reaches the HTTP server behind a Service.

The embedded mode has no cluster network; a Service that can be reached says where by the annotation
`shoal.dev/address`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from shoal.apiserver.errors import bad_request, unavailable
from shoal.apiserver.state import Document

if TYPE_CHECKING:
    import httpx

ADDRESS = "shoal.dev/address"
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_PASSED = ("content-type", "content-encoding", "cache-control", "etag")


def split_name(name: str) -> tuple[str, str]:
    """Return (service, port) of `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`."""
    parts = name.split(":")
    if len(parts) == 3:
        return parts[1], parts[2]
    return (parts[0], parts[1]) if len(parts) == 2 else (name, "")


def address(service: Document, port: str) -> str:
    """Return the base URL of a Service's HTTP server.

    Raises:
        ApiError: 400 for a port it does not have, 503 if it does not say where it is.
    """
    name = service["metadata"]["name"]
    ports = service.get("spec", {}).get("ports") or []
    known = [str(value) for entry in ports for value in (entry.get("name"), entry.get("port")) if value]
    if port and port not in known:
        raise bad_request(f'no service port "{port}" found for service "{name}"; it has: {", ".join(known) or "none"}')
    base: str = (service["metadata"].get("annotations") or {}).get(ADDRESS, "")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise unavailable(
            f'no endpoints available for service "{name}": it has no annotation {ADDRESS}: http://IP:PORT'
        )
    return base.rstrip("/")


class Proxy:
    """Forwards requests; one client for all of them, made when first needed."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def forward(self, request: Request, base: str, path: str, body: bytes) -> Response:
        """Return the answer of `base/path` to the same request, streamed.

        Raises:
            ApiError: 503 if it cannot be reached.
        """
        import httpx  # most requests never need it, and it would be a third of the start-up time

        if self._client is None:
            timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
            self._client = httpx.AsyncClient(timeout=timeout, trust_env=False)
        url = f"{base}/{quote(path, safe='/:@!$&()*+,;=~-._')}"
        headers = {"accept": request.headers.get("accept", "*/*")}
        if body:
            headers["content-type"] = request.headers.get("content-type", "application/octet-stream")
        params = httpx.QueryParams(request.url.query)
        outgoing = self._client.build_request(request.method, url, params=params, headers=headers, content=body)
        try:
            answer = await self._client.send(outgoing, stream=True)
        except httpx.HTTPError as error:
            raise unavailable(f"error trying to reach service: {url}: {error or type(error).__name__}") from None
        headers = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
        return StreamingResponse(_body(answer), status_code=answer.status_code, headers=headers)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


async def _body(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for block in answer.aiter_raw():
            yield block
    finally:
        await answer.aclose()
