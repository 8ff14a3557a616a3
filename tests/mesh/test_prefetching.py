"""Files are fetched for loads that wait for space: an adapter keeps them until the load is over, or gives them up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from shoal.core.events import Event, LoadSucceeded
from shoal.core.types import PodId, RevisionId, RuntimeName
from shoal.mesh.api import ModelInfo, PodEndpoint
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods import prefetching
from shoal.mesh.pods.link import PodLink
from shoal_protos.adapter import adapter_pb2, adapter_pb2_grpc
from shoal_protos.mmesh import model_mesh_pb2, model_runtime_pb2_grpc
from support.mesh import MIB, PlainRuntime, model_info
from waiting import until

pytestmark = pytest.mark.server
A, B = RevisionId("a"), RevisionId("b")
INFO = ModelInfo(type="rt:test", path=json.dumps({"answer": "a"}), key='{"storage_key": "s"}')


class Adapter(adapter_pb2_grpc.AdapterServicer, PlainRuntime):
    """An adapter in front of a model server; `calls` are the prefetches that last, `asked` all that were asked for."""

    def __init__(self, host: str = "127.0.0.1", **options: int) -> None:
        super().__init__(host, **options)
        self.asked: list[object] = []
        self.calls: list[str] = []
        self.refusal: grpc.StatusCode | None = None
        self.may_load = asyncio.Event()
        self.may_load.set()

    async def serve(self, *, whole: bool = True) -> int:
        """The port of its management; not `whole`: it does not know what an older one does not."""
        self.management = grpc.aio.server()
        model_runtime_pb2_grpc.add_ModelRuntimeServicer_to_server(self, self.management)
        if whole:
            adapter_pb2_grpc.add_AdapterServicer_to_server(self, self.management)
        port: int = self.management.add_insecure_port(f"{self.host}:0")
        await self.management.start()
        return port

    async def watchState(self, request, context):
        yield adapter_pb2.State(
            status=adapter_pb2.State.READY, incarnation="1", capacity_bytes=self.capacity, max_loading_concurrency=1
        )
        await asyncio.Event().wait()

    async def prefetch(self, request, context):
        self.asked.append(request)
        self.calls.append(request.modelId)
        try:
            if self.refusal:
                await context.abort(self.refusal, "not now")
            yield adapter_pb2.PrefetchResponse()
            await asyncio.Event().wait()
        finally:
            self.calls.remove(request.modelId)

    async def loadModel(self, request, context):
        await self.may_load.wait()
        return await super().loadModel(request, context)


@pytest.fixture
async def adapter() -> AsyncIterator[Adapter]:
    adapter = Adapter()
    yield adapter
    await adapter.management.stop(0)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetching, "PREFETCH_AFTER", 0.0)


async def linked(adapter: Adapter, told: list[Event], *, whole: bool = True) -> PodLink:
    port = await adapter.serve(whole=whole)
    pod = PodEndpoint(PodId("p1"), RuntimeName("test"), adapter.host, port, port)
    return PodLink(pod, told.append, lambda _: {}, Metrics(), judged=lambda _: None, lost_after=60.0, now=lambda: 0.0)


async def test_what_is_fetched_is_kept_until_its_load_is_over(adapter: Adapter, at_once: None) -> None:
    told: list[Event] = []
    link = await linked(adapter, told)
    link.prefetches.begin(A, INFO)
    await until(lambda: adapter.calls, "the adapter is asked")
    (request,) = adapter.asked
    assert request == prefetching.load_request(A, INFO)
    assert (request.modelId, request.modelType, request.modelPath, request.modelKey) == (
        A, INFO.type, INFO.path, INFO.key,
    )  # fmt: skip
    adapter.may_load.clear()
    link.load(A, INFO)
    link.prefetches.begin(B, INFO)
    await until(lambda: adapter.calls == [A, B], "another is asked for")
    adapter.may_load.set()
    await until(lambda: adapter.calls == [B], "the load is over")
    assert told == [LoadSucceeded(PodId("p1"), A, MIB)]
    await link._close()
    await until(lambda: not adapter.calls, "the mesh is gone")


async def test_a_load_that_is_cancelled_gives_up_what_is_fetched(adapter: Adapter, at_once: None) -> None:
    link = await linked(adapter, [])
    link.prefetches.begin(A, INFO)
    await until(lambda: adapter.calls, "the adapter is asked")
    link.cancel_load(A)
    await until(lambda: not adapter.calls, "it is given up")
    await link._close()


async def test_a_load_that_soon_begins_or_is_cancelled_is_not_asked_for(adapter: Adapter, at_once: None) -> None:
    told: list[Event] = []
    link = await linked(adapter, told)
    for revision in (A, B):
        link.prefetches.begin(revision, INFO)
    link.load(A, INFO)
    link.cancel_load(B)
    assert not link.prefetches._due
    await until(lambda: told, "it is loaded")
    assert adapter.asked == []
    await link._close()


async def test_an_adapter_that_does_not_know_the_call_is_asked_once(adapter: Adapter, at_once: None) -> None:
    link = await linked(adapter, [], whole=False)
    link.prefetches.begin(A, INFO)
    await until(lambda: not link.prefetches._known, "it says so")
    link.prefetches.begin(B, INFO)
    assert not link.prefetches._due
    await link._close()


async def test_an_adapter_that_fetches_nothing_now_is_asked_for_the_next(adapter: Adapter, at_once: None) -> None:
    told: list[Event] = []
    link = await linked(adapter, told)
    adapter.refusal = grpc.StatusCode.RESOURCE_EXHAUSTED
    link.prefetches.begin(A, INFO)
    await until(lambda: adapter.asked and not adapter.calls, "it refuses")
    adapter.refusal = None
    link.load(A, INFO)
    await until(lambda: told, "it is loaded all the same")
    link.prefetches.begin(B, INFO)
    await until(lambda: adapter.calls == [B], "the next is fetched")
    await link._close()


async def test_a_model_is_fetched_while_another_one_drains(world) -> None:
    pod = Adapter(f"{world.subnet}.10")
    await pod.start()
    endpoint = PodEndpoint(PodId("p1"), RuntimeName("test"), pod.host, await pod.serve(), 8085)
    mesh = await world.start_mesh()
    mesh.pod_found(endpoint)
    for name in ("one", "two"):
        info = model_info(name, bytes=100 * MIB)
        await world.management.registerModel(model_mesh_pb2.RegisterModelRequest(modelId=name, modelInfo=info))
    assert await world.client.infer("one", metadata=[("mm-model-id", "one")]) == "one"
    pod.infer_seconds = 60
    long = asyncio.create_task(world.client.infer("one", timeout=60, metadata=[("mm-model-id", "one")]))
    await until(lambda: pod.answering, "a request is under way")
    pod.infer_seconds = 0
    other = asyncio.create_task(world.client.infer("two", metadata=[("mm-model-id", "two")]))
    await until(lambda: pod.calls == ["two"], "its files are fetched")
    assert pod.log == ["load one"]
    long.cancel()
    assert await other == "two"
    assert pod.log == ["load one", "unload one", "load two"]
    await until(lambda: not pod.calls, "the load is over")
    await pod.management.stop(0)
    await pod.stop()
