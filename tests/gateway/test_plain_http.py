"""What old and odd HTTP clients send, byte by byte, through a real Envoy."""

from __future__ import annotations

import asyncio
import json

import pytest
import pytest_asyncio

from shoal.gateway.settings import Address
from support.gateway import HttpServer, running_gateway

pytestmark = [pytest.mark.server, pytest.mark.asyncio(loop_scope="module")]
LIVE = '{"server": "activator", "path": "/v2/health/live"}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway():
    activator = HttpServer("activator")
    await activator.start()
    async with running_gateway(activator.address) as running:
        yield running
    await activator.stop()


async def exchange(address: Address, sent: str) -> tuple[int, str, str]:
    """Status, head and body of the answer to these bytes."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(sent.encode("latin-1"))
        async with asyncio.timeout(20):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = (await reader.readexactly(length)).decode()
    finally:
        writer.close()
    return int(head.split(" ")[1]), head, body


@pytest.mark.parametrize(
    "request_head",
    [
        "GET /v2/health/live HTTP/1.0\r\n",
        "GET /v2/health/live HTTP/1.0\r\nHost: shoal\r\nConnection: keep-alive\r\n",
        "GET http://shoal/v2/health/live HTTP/1.0\r\n",
        "GET http://shoal/v2/health/live HTTP/1.1\r\nHost: shoal\r\n",
        "GET /v2/health/live/ HTTP/1.0\r\n",
    ],
)
async def test_old_health_checks_and_proxies_are_answered(gateway, request_head):
    status, head, body = await exchange(gateway.settings.rest, request_head + "\r\n")
    assert (status, body) == (200, LIVE)
    kept = "keep-alive" in request_head or "HTTP/1.1" in request_head
    assert ("connection: close" in head) != kept


async def test_inference_by_an_old_client_is_answered(gateway):
    sent = json.dumps({"inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": [1]}]})
    head = f"POST /v2/models/digits/infer HTTP/1.0\r\nContent-Length: {len(sent)}\r\n\r\n"
    status, _, body = await exchange(gateway.settings.rest, head + sent)
    assert (status, body) == (200, '{"server": "activator", "path": "/v2/models/digits/infer"}')


async def test_the_grpc_port_tells_an_old_client_what_it_is_for(gateway):
    status, _, body = await exchange(gateway.settings.grpc, "GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert (status, body) == (415, "this port speaks gRPC only; REST is served on its own port\n")


@pytest.mark.parametrize(
    ("request_head", "status", "says"),
    [
        ("GET /v2 HTTP/1.1\r\n", 400, "the request has no Host header, which HTTP/1.1 demands"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 404, "the request has no path that begins with a slash"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n", 404, "the request has no path that begins with a slash"),
        (
            "GET /v2 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            403,
            "connections cannot be upgraded here, to WebSocket or anything else",
        ),
    ],
)
async def test_no_refusal_is_without_a_word(gateway, request_head, status, says):
    got, _, body = await exchange(gateway.settings.rest, request_head + "\r\n")
    assert (got, json.loads(body)) == (status, {"error": says})
    if not request_head.startswith("CONNECT"):  # which gRPC has a use for
        got, _, body = await exchange(gateway.settings.grpc, request_head + "\r\n")
        assert (got, body) == (status, says)


async def test_an_offer_to_upgrade_to_http2_is_no_trouble(gateway):
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    status, _, body = await exchange(gateway.settings.rest, f"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n{offer}\r\n")
    assert (status, body) == (200, LIVE)
