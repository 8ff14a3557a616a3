"""Requests that would wait in vain are refused at once, and are told when to come back, whatever they speak."""

import asyncio
import contextlib
import time

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

from mesh.conftest import following
from shoal_protos.mmesh import model_mesh_pb2 as pb
from support.mesh import model_info

pytestmark = pytest.mark.server
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
SECONDS = 0.5


@contextlib.asynccontextmanager
async def queue(world):
    """A mesh whose only pod has learned how long loads take, and has four more to do."""
    await world.start_pod("pod-1", concurrency=1)
    await world.start_mesh()
    for name in ("first", "a", "b", "c", "d", "late"):
        info = model_info(name, seconds=SECONDS)
        await world.management.registerModel(pb.RegisterModelRequest(modelId=name, modelInfo=info))
        await world.management.setVModel(pb.SetVModelRequest(vModelId=name, targetModelId=name))
    await world.client.infer("first")
    waiting = []
    for name in ("a", "b", "c", "d"):
        waiting.append(asyncio.create_task(world.client.infer(name)))
        await asyncio.sleep(0.02)  # they come one after the other
    yield
    assert await asyncio.gather(*waiting) == ["a", "b", "c", "d"]
    assert "load late" not in world.pods["pod-1"].log


def _check(error):
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "late would be loaded in about 2." in error.details()
    assert "as 3 other loads go first" in error.details()
    trailers = dict(error.trailing_metadata())
    assert int(trailers["retry-after"]) == 2
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (8, error.details())
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert 1 < retry.retry_delay.ToTimedelta().total_seconds() <= 2


async def test_by_grpc(world):
    async with queue(world):
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.client.infer("late", timeout=1.0)
        assert time.monotonic() - started < SECONDS
        _check(refused.value)


async def test_by_rest(world):
    async with queue(world), httpx.AsyncClient(base_url=f"http://{world.subnet}.1:18008") as http:
        answer = await http.post("/v2/models/late/infer", json=BODY, headers={"x-request-timeout-seconds": "1"})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "2"
        assert "late would be loaded in about 2." in answer.json()["error"]


async def test_by_way_of_the_gateway(world):
    async with queue(world), following(world) as gateway:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.infer("late", timeout=0.6)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(refused.value.trailing_metadata())["retry-after"]


TRANSCODED = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}]}


@pytest.mark.parametrize(
    ("body", "deadline"),
    [(BODY, {"x-request-timeout-seconds": "0.6"}), (TRANSCODED, {"grpc-timeout": "600m"})],
    ids=["standard", "transcoded"],
)
async def test_by_rest_by_way_of_the_gateway(world, body, deadline):
    async with queue(world), following(world), httpx.AsyncClient(base_url=f"http://{world.subnet}.2:8008") as http:
        answer = await http.post("/v2/models/late/infer", json=body, headers=deadline)
        assert answer.status_code == 429, answer.text
        assert int(answer.headers["retry-after"]) >= 1
        assert "late would be loaded in" in answer.text


@pytest.mark.parametrize("seconds", ["-1", "nan", "soon"])
async def test_a_deadline_that_is_no_time_is_refused(world, seconds):
    await world.start_mesh()
    async with httpx.AsyncClient(base_url=f"http://{world.subnet}.1:18008") as http:
        answer = await http.post("/v2/models/x/infer", json=BODY, headers={"x-request-timeout-seconds": seconds})
        assert answer.status_code == 400
        assert f"header x-request-timeout-seconds: '{seconds}' must be a number of seconds" in answer.json()["error"]
