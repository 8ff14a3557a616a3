"""What can be set of a gateway, through a real Envoy."""

from __future__ import annotations

import asyncio
import json

import grpc
import httpx
import pytest

from shoal.gateway.settings import GatewaySettings
from shoal_protos import inference as oip
from support.gateway import HttpServer, ModelServer, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server
REVISION = "digits__isvc-0123456789"


@pytest.fixture
async def server():
    server = ModelServer(REVISION, name="pod")
    await server.start()
    yield server
    await server.stop()


async def test_the_access_log_says_who_served_what(server, tmp_path):
    log = tmp_path / "access.log"
    async with running_gateway(access_log=log) as gateway, grpc.aio.insecure_channel(gateway.target) as channel:
        await gateway.route({"digits": (server.upstream(REVISION),)})
        await Stub(channel).ModelInfer(oip.ModelInferRequest(model_name="digits"))
        await gateway.stop_process(gently=True)  # which writes what is still held back
    entry = json.loads(log.read_text().splitlines()[0])
    assert entry["path"] == oip.method_path("ModelInfer")
    assert entry["upstream"] == f"{server.address.host}:{server.address.port}"
    assert (entry["status"], entry["grpc_status"], entry["attempts"]) == (200, "OK", 1)


async def test_messages_larger_than_usual_pass_if_they_may(server):
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    async with (
        running_gateway(max_message_bytes=24 << 20) as gateway,
        grpc.aio.insecure_channel(gateway.target, options=options) as channel,
    ):
        await gateway.route({"digits": (server.upstream(REVISION),)})
        request = oip.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(20 << 20)])
        assert (await Stub(channel).ModelInfer(request)).model_name == REVISION
        request.raw_input_contents[0] = bytes(25 << 20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Stub(channel).ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_several_workers_route_alike(server):
    async with running_gateway(concurrency=3) as gateway:
        gateway.activator.revisions = {"digits"}
        for copies, expected in (((server.upstream(REVISION),), "pod"), ((), "activator")):
            await gateway.route({"digits": copies})
            for _ in range(12):  # each connection is some worker's
                options = [("grpc.use_local_subchannel_pool", 1)]
                async with grpc.aio.insecure_channel(gateway.target, options=options) as channel:
                    answer = await Stub(channel).ModelInfer(oip.ModelInferRequest(model_name="digits"))
                assert answer.model_version == expected


async def test_routes_that_changed_before_a_workers_first_request_are_as_they_are_now(server):
    """A worker builds its part of a route when it is first used, from all that came until then."""
    other = ModelServer(REVISION, name="other pod")
    await other.start()
    async with running_gateway(concurrency=2) as gateway:
        gateway.activator.revisions = {"withdrawn"}
        names = ("moved", "grown", "withdrawn")
        await gateway.route({name: (server.upstream(REVISION),) for name in names})
        await gateway.route({"moved": (other.upstream(REVISION),), "withdrawn": ()})
        await gateway.route({"grown": (server.upstream(REVISION), other.upstream(REVISION))})
        answers = {name: set() for name in names}
        for _ in range(8):
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(gateway.target, options=options) as channel:
                for name in names:
                    answer = await Stub(channel).ModelInfer(oip.ModelInferRequest(model_name=name))
                    answers[name].add(answer.model_version)
    await other.stop()
    assert answers == {"moved": {"other pod"}, "grown": {"pod", "other pod"}, "withdrawn": {"activator"}}


async def test_workers_share_connections_evenly():
    async with running_gateway(concurrency=2) as gateway:
        host, port = gateway.settings.grpc.host, gateway.settings.grpc.port

        async def shares() -> list[int]:
            lines = (await gateway.admin("/stats?filter=worker_.*downstream_cx_active")).splitlines()
            return [int(line.rpartition(": ")[2]) for line in lines if f"_{port}.worker_" in line]

        async with asyncio.timeout(20):
            while len(await shares()) < 2:  # the first worker takes all while it is alone  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while await shares() != [2, 2]:  # the gateway's own, one a script  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            kept = [await asyncio.open_connection(host, port) for _ in range(6)]
            while sum(await shares()) < len(kept) + 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await shares() == [5, 5]
        for _, writer in kept:
            writer.close()


def test_workers_are_as_many_as_processors_but_few(monkeypatch):
    for processors, workers in ((None, 1), (1, 1), (2, 2), (64, 4)):
        monkeypatch.setattr("os.cpu_count", lambda processors=processors: processors)
        assert GatewaySettings().workers == workers
    assert GatewaySettings(concurrency=9).workers == 9


async def test_connections_beyond_the_limit_are_refused():
    async with running_gateway(max_connections=3, concurrency=1) as gateway:
        while ": 1\n" not in await gateway.admin("/stats?filter=http.rest.downstream_cx_active"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # that which found the gateway ready is still counted, or its own not yet
        while ": 2\n" not in await gateway.admin("/stats?filter=http.grpc.downstream_cx_active"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        host, port = gateway.settings.grpc.host, gateway.settings.grpc.port
        kept = [await asyncio.open_connection(host, port) for _ in range(3)]
        while ": 5\n" not in await gateway.admin("/stats?filter=http.grpc.downstream_cx_active"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # otherwise the next one may be accepted before one of these
        reader, writer = await asyncio.open_connection(host, port)
        try:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        except ConnectionResetError:
            pass  # the other way to be refused
        writer.close()
        for _, writer in kept:
            writer.close()
        assert not any(reader.at_eof() for reader, _ in kept)


async def test_a_request_without_a_deadline_gets_the_gateways(server):
    activator = HttpServer("activator")
    activator.hold = asyncio.Event()
    await activator.start()
    async with running_gateway(activator.address, request_timeout=0.3) as gateway:
        await gateway.route({"digits": (server.upstream(REVISION),)})
        server.hold = asyncio.Event()
        async with grpc.aio.insecure_channel(gateway.target) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await Stub(channel).ModelInfer(oip.ModelInferRequest(model_name="digits"))
        async with httpx.AsyncClient(base_url=gateway.rest, timeout=20) as client:
            body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
            answer = await client.post("/v2/models/digits/infer", json=body)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert answer.status_code == 504
        assert "too long" in answer.json()["error"]
        await until(lambda: activator.requests)
        server.hold.set()
        activator.hold.set()
    await activator.stop()
