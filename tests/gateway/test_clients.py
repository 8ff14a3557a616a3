"""Clients people have: `tritonclient`, over gRPC and HTTP, unchanged. In a process of their own, as gevent wants it."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from support.gateway import HttpServer, ModelServer, running_gateway

pytestmark = pytest.mark.server
REVISION = "digits__isvc-0123456789"

OVER_GRPC = """
import sys, json, numpy, tritonclient.grpc as triton
with triton.InferenceServerClient(sys.argv[1]) as client:
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(numpy.zeros((1, 4), numpy.float32))
    answers = [client.infer("digits", [tensor], compression_algorithm=a) for a in (None, "gzip")]
    assert client.is_server_live()
    print(json.dumps([answer.get_response().model_version for answer in answers]))
"""
OVER_HTTP = """
import sys, json, numpy, tritonclient.http as triton
with triton.InferenceServerClient(sys.argv[1]) as client:
    assert client.is_server_live() and client.is_model_ready("digits")
    client.get_model_metadata("digits")
    client.get_model_repository_index()
    answers = []
    for binary in (True, False):
        tensor = triton.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(numpy.zeros((1, 4), numpy.float32), binary_data=binary)
        answers.append(client.infer("digits", [tensor], request_compression_algorithm="gzip").get_response())
    print(json.dumps([answer["path"] for answer in answers]))
"""


async def run(script: str, target: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, target, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def test_tritonclient_over_grpc():
    server = ModelServer(REVISION, name="pod")
    await server.start()
    async with running_gateway() as gateway:
        await gateway.route({"digits": (server.upstream(REVISION),)})
        gateway.activator.revisions = {"digits"}
        assert await run(OVER_GRPC, gateway.target) == ["pod", "activator"]
    assert server.requests[-1].raw_input_contents == [bytes(16)]
    await server.stop()


async def test_tritonclient_over_http():
    activator = HttpServer("activator")
    await activator.start()
    async with running_gateway(activator.address) as gateway:
        answers = await run(OVER_HTTP, gateway.rest.removeprefix("http://"))
    assert answers == ["/v2/models/digits/infer"] * 2
    await activator.stop()
