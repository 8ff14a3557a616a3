"""What tests of rollouts ask: an HTTP server that says what it is told to, and model servers of the Open Inference
Protocol whose answers are set by the test."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import grpc.aio

from shoal.mesh.api import PodEndpoint
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.link import PodLink
from shoal_protos import inference as oip


class Outside:
    """An HTTP server on a free port: answers `status` (or that of `statuses` for the path), `headers` and `body` after
    `seconds`, and notes what it got."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.status, self.body, self.seconds = 200, b"", 0.0
        self.statuses: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        self.got: list[tuple[str, str, bytes]] = []
        outside = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outside.got.append((self.command, self.path, body))
                outside.closing.wait(outside.seconds)
                self.send_response(outside.statuses.get(self.path, outside.status))
                for name, value in outside.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(outside.body)))
                self.end_headers()
                try:
                    self.wfile.write(outside.body)
                except ConnectionError:
                    pass  # the client left

            def do_POST(self):
                self.do_GET()

            def log_message(self, *_):
                pass

        self.closing = threading.Event()
        self.server = ThreadingHTTPServer((host, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://{host}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def says(self, document, status=200):
        self.status, self.body = status, json.dumps(document).encode()

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class ModelServer:
    """A model server on a free port. `answer(request)` makes the answer or raises `Refuse`."""

    def __init__(self) -> None:
        self.asked: list = []
        self.headers: list[dict] = []
        self.metadata = oip.ModelMetadataResponse()
        self.answer: Callable = lambda request: oip.ModelInferResponse()
        self.loaded = True
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self, pod: str) -> PodLink:
        self.server = grpc.aio.server()
        rpcs = {
            name: grpc.unary_unary_rpc_method_handler(
                method, getattr(oip, f"{name}Request").FromString, lambda message: message.SerializeToString()
            )
            for name, method in (
                ("ModelInfer", self._infer),
                ("ModelMetadata", self._metadata),
                ("ModelReady", self._ready),
            )
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.SERVICE, rpcs),))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        endpoint = PodEndpoint(pod, "test", "127.0.0.1", 1, port)  # nothing manages it
        link = PodLink(
            endpoint, lambda _: None, lambda _: {}, Metrics(), judged=lambda _: None, lost_after=1, now=time.time
        )
        self.following = asyncio.create_task(link.run())
        return link

    async def stop(self) -> None:
        self.following.cancel()
        await asyncio.wait([self.following])
        await self.server.stop(0)

    async def _infer(self, request, context):
        self.asked.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        await self.gate.wait()
        if not self.loaded:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_name}")
        try:
            return self.answer(request)
        except Refuse as refusal:
            await context.abort(*refusal.args)

    async def _metadata(self, request, context):
        if not self.loaded:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name}")
        return self.metadata

    async def _ready(self, request, context):
        return oip.ModelReadyResponse(ready=self.loaded)


class Refuse(Exception):
    """A status and a message."""


def refuse(code: grpc.StatusCode, message: str) -> Callable:
    def answer(request):
        raise Refuse(code, message)

    return answer
