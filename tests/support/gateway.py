"""Real servers for the gateway's tests: Envoy, model servers that say what they were asked, and an activator."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx

from shoal.core.events import RevisionUsage
from shoal.core.types import RouteKey
from shoal.gateway.bootstrap import command, write_bootstrap
from shoal.gateway.control import GatewayControl
from shoal.gateway.names import SERVED_HEADER, asked_for
from shoal.gateway.protocols import Counted, GatewayCallbacks, RequestSeen, Upstream
from shoal.gateway.settings import Address, GatewaySettings
from shoal_protos import inference as oip
from waiting import until

HOST = f"127.90.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"


START_SECONDS = 60.0
"""Envoy needs about one second to be there; on a machine that is full, many."""


def free_address() -> Address:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return Address(host=HOST, port=probe.getsockname()[1])


@dataclass
class Heard:
    """What control told the mesh."""

    acknowledged: list[int] = field(default_factory=list)
    usage: list[tuple[RevisionUsage, ...]] = field(default_factory=list)
    seen: list[RequestSeen] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)

    @property
    def callbacks(self) -> GatewayCallbacks:
        return GatewayCallbacks(
            self.acknowledged.append,
            lambda _, usage: self.usage.append(usage),
            observed=self.seen.extend,
            counted=self.counted.extend,
        )

    def used(self, revision: str) -> int:
        return sum(u.requests for usage in self.usage for u in usage if u.revision == revision)


class ModelServer:
    """Answers for the revisions it has with the name it was asked for, and remembers metadata."""

    def __init__(self, *revisions: str, name: str = "server") -> None:
        self.name = name
        self.revisions = set(revisions)
        self.address = free_address()
        self.metadata: list[dict[str, str | bytes]] = []
        self.requests: list[Any] = []
        self.hold: asyncio.Event | None = None
        self.fail: grpc.StatusCode | None = None
        self.trailers: tuple[tuple[str, str], ...] = ()
        """What goes with an abort."""
        self.final = False
        """Headers come before an abort, as the activator's do."""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.aio.server(options=[*options, ("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.SERVICE, self._methods()),))
        self._server.add_insecure_port(f"{self.address.host}:{self.address.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    def upstream(self, revision: str, weight: int = 1, http_port: int | None = None, **marks: Any) -> Upstream:
        return Upstream(revision, self.address.host, self.address.port, http_port, weight, **marks)

    def _methods(self) -> dict[str, grpc.RpcMethodHandler]:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return {
            method: kind(
                getattr(self, method),
                request_deserializer=getattr(oip, f"{message}Request").FromString,
                response_serializer=getattr(oip, f"{message}Response").SerializeToString,
            )
            for method, message, kind in (
                ("ModelInfer", "ModelInfer", unary),
                ("ModelMetadata", "ModelMetadata", unary),
                ("ServerLive", "ServerLive", unary),
                ("ModelStreamInfer", "ModelInfer", stream),
            )
        }

    async def _check(self, name: str, context: grpc.aio.ServicerContext) -> str:
        self.metadata.append(dict(context.invocation_metadata()))
        if self.hold is not None:
            await self.hold.wait()
        if self.final:
            await context.send_initial_metadata(((SERVED_HEADER, "cold"),))
        if self.fail is not None:
            await context.abort(self.fail, "told to fail", self.trailers)
        if self.final and (key := asked_for(context.invocation_metadata())):
            name = key.name  # as the activator does
        if name not in self.revisions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{self.name} has no {name}")
        return name

    async def ModelInfer(self, request, context):
        name = await self._check(request.model_name, context)
        self.requests.append(request)
        return oip.ModelInferResponse(model_name=name, id=request.id, model_version=self.name)

    async def ModelMetadata(self, request, context):
        name = await self._check(request.name, context)
        return oip.ModelMetadataResponse(name=name, platform=self.name)

    async def ServerLive(self, request, context):
        return oip.ServerLiveResponse(live=True)

    async def ModelStreamInfer(self, request_iterator, context):
        async for request in request_iterator:
            name = await self._check(request.model_name, context)
            yield oip.ModelInferResponse(model_name=name, id=request.id, model_version=self.name)


class Stub:
    """Client of the Open Inference Protocol."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        for method in ("ModelInfer", "ModelMetadata", "ServerLive"):
            call = channel.unary_unary(
                oip.method_path(method),
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=getattr(oip, f"{method}Response").FromString,
            )
            setattr(self, method, call)
        self.ModelStreamInfer = channel.stream_stream(
            oip.method_path("ModelStreamInfer"),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=oip.ModelInferResponse.FromString,
        )


@dataclass
class Gateway:
    """An Envoy with its control, and what stands in for the mesh's own servers."""

    settings: GatewaySettings
    control: GatewayControl
    heard: Heard
    activator: ModelServer
    folder: Path
    process: asyncio.subprocess.Process | None = None
    _versions: itertools.count = field(default_factory=lambda: itertools.count(1))

    async def start_process(self) -> None:
        path = self.folder / "envoy.json"
        write_bootstrap(self.settings, path)
        with (self.folder / "envoy.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*command(self.settings, path), stdout=log, stderr=log)
        await until(lambda: self.control.connected and self.heard.acknowledged, seconds=START_SECONDS)
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(self.settings.rest.host, self.settings.rest.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def stop_process(self, *, gently: bool = False) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.terminate() if gently else self.process.kill()
            await self.process.wait()

    def publish(self, changes: dict[str | RouteKey, tuple[Upstream, ...]]) -> int:
        version = next(self._versions)
        self.control.publish(version, {k if isinstance(k, RouteKey) else RouteKey(k): v for k, v in changes.items()})
        return version

    async def route(self, changes: dict[str | RouteKey, tuple[Upstream, ...]]) -> None:
        """Publish and wait until the gateway runs with it."""
        version = self.publish(changes)
        await self.acknowledged(version)

    async def acknowledged(self, version: int) -> None:
        await until(lambda: self.heard.acknowledged and self.heard.acknowledged[-1] >= version)

    async def admin(self, path: str) -> str:
        """What Envoy's own admin API says."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.settings.admin_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://envoy") as client:
            return (await client.get(path)).text

    async def has_cluster(self, name: str) -> bool:
        return f"\n{name}::" in "\n" + await self.admin("/clusters")

    @property
    def log(self) -> str:
        return (self.folder / "envoy.log").read_text()

    @property
    def target(self) -> str:
        return f"{self.settings.grpc.host}:{self.settings.grpc.port}"

    @property
    def rest(self) -> str:
        return f"http://{self.settings.rest.host}:{self.settings.rest.port}"


def settings_for(activator: Address, http: Address | None = None, **changes: object) -> GatewaySettings:
    values: dict[str, object] = {
        "grpc": free_address(),
        "rest": free_address(),
        "xds": free_address(),
        "activator_grpc": activator,
        "activator_http": http or free_address(),
        "management": activator,
        "usage_interval": 0.2,
    }
    return GatewaySettings.model_validate(values | changes)


@contextlib.asynccontextmanager
async def running_gateway(http: Address | None = None, **changes: object) -> AsyncIterator[Gateway]:
    """A gateway with an activator that answers for every name it is given in `activator.revisions`."""
    activator = ModelServer(name="activator")
    activator.final = True
    await activator.start()
    heard = Heard()
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(activator.address, http, **{"admin_socket": Path(folder) / "admin", **changes})
        control = GatewayControl(settings, heard.callbacks)
        gateway = Gateway(settings, control, heard, activator, Path(folder))
        await control.start()
        try:
            gateway.publish({})
            await gateway.start_process()
            yield gateway
        finally:
            await gateway.stop_process()
            await control.stop()
            await activator.stop()


class HttpServer:
    """A model server's HTTP endpoint (or the activator's): answers with what it was asked, and remembers it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = free_address()
        self.status = 200
        self.hold: asyncio.Event | None = None
        self.marks = ""
        """Headers of every answer, each ended by a line break."""
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.address.host, self.address.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await self._body(reader, headers)
                self.requests.append((method, path, headers, body))
                if self.hold is not None:
                    await self.hold.wait()
                answer = json.dumps({"server": self.name, "path": path}).encode()
                start = f"HTTP/1.1 {self.status} OK\r\ncontent-type: application/json\r\n"
                start += f"content-length: {len(answer)}\r\n{self.marks}\r\n"
                writer.write(start.encode() + (b"" if method == "HEAD" else answer))
                await writer.drain()
        writer.close()

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return await reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return body
