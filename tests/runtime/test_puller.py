"""A runtime that speaks `mmesh.ModelRuntime` itself, behind the adapter as puller."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from shoal_protos.adapter import adapter_pb2
from shoal_protos.mmesh import model_runtime_pb2 as pb
from shoal_protos.mmesh import model_runtime_pb2_grpc
from support.runtime import HOST, Pod, model_key, refused
from support.runtime_storage import FaultyServer, File
from waiting import until

pytestmark = pytest.mark.server


class WordRuntime(model_runtime_pb2_grpc.ModelRuntimeServicer):
    """A whole runtime: a model is the text of its file. Unknown models are NOT_FOUND, as some runtimes have it."""

    def __init__(self) -> None:
        self.models: dict[str, str] = {}
        self.requests: list[pb.LoadModelRequest] = []
        self.freed = asyncio.Event()

    async def loadModel(self, request, context):
        self.requests.append(request)
        text = Path(request.modelPath).read_text()
        if text == "stuck":
            await self.freed.wait()
        if text == "bad":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this is no word")
        self.models[request.modelId] = text
        return pb.LoadModelResponse(sizeInBytes=0 if text == "small" else 4096, maxConcurrency=3)

    async def unloadModel(self, request, context):
        if request.modelId == "stuck":
            await self.freed.wait()
        if self.models.pop(request.modelId, None) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not loaded")
        return pb.UnloadModelResponse()

    async def modelSize(self, request, context):
        return pb.ModelSizeResponse(sizeInBytes=len(self.models[request.modelId]))

    async def runtimeStatus(self, request, context):
        self.models.clear()
        infos = {"words.Words/Say": pb.RuntimeStatusResponse.MethodInfo(idInjectionPath=[2, 1])}
        return pb.RuntimeStatusResponse(
            status=pb.RuntimeStatusResponse.READY,
            capacityInBytes=5_000_000,
            maxLoadingConcurrency=2,
            modelLoadingTimeoutMs=7000,
            defaultModelSizeInBytes=1234,
            runtimeVersion="words-1",
            methodInfos=infos,
        )


@pytest.fixture
async def runtime() -> WordRuntime:
    return WordRuntime()


async def serve(runtime: WordRuntime, at: int | Path) -> grpc.aio.Server:
    server = grpc.aio.server()
    model_runtime_pb2_grpc.add_ModelRuntimeServicer_to_server(runtime, server)
    server.add_insecure_port(f"unix:{at}" if isinstance(at, Path) else f"{HOST}:{at}")
    await server.start()
    return server


@pytest.fixture
async def words(own_pod: Pod, runtime: WordRuntime) -> AsyncIterator[Pod]:
    for name in ("word", "small", "bad"):
        (own_pod.claim / name).write_text(name)
    (own_pod.root / "left-over").mkdir()
    server = await serve(runtime, own_pod.ports["grpc"])
    own_pod.start_adapter("puller")
    await own_pod.ready()
    yield own_pod
    await server.stop(None)


async def test_models_are_fetched_and_the_runtimes_word_counts(words: Pod, runtime: WordRuntime) -> None:
    state = await words.ready()
    assert (state.capacity_bytes, state.max_loading_concurrency, state.model_loading_timeout_ms) == (5_000_000, 2, 7000)
    assert (state.default_model_size_bytes, state.runtime_version) == (1234, "words-1")
    assert list(state.method_id_paths["words.Words/Say"].field_numbers) == [2, 1]
    assert not (words.root / "left-over").exists()
    answer = await words.load("m", "word", model_key({"name": "word"}))
    assert (answer.sizeInBytes, answer.maxConcurrency) == (4096, 3)
    assert runtime.models == {"m": "word"}
    key = json.loads(runtime.requests[0].modelKey)
    assert key == {"model_type": {"name": "word"}, "disk_size_bytes": 4}
    assert Path(runtime.requests[0].modelPath) == words.root / "m" / "word"
    assert (await words.load("s", "small")).sizeInBytes == len("small")
    assert await words.loaded() == {"m", "s"}
    await words.unload("m")
    await words.unload("m")
    assert runtime.models == {"s": "small"}
    assert not (words.root / "m").exists()


async def test_the_runtimes_refusal_comes_through_and_leaves_nothing(words: Pod) -> None:
    code, message = await refused(words.load("b", "bad"))
    assert (code, "this is no word" in message) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert not (words.root / "b").exists()


async def test_a_restarted_runtime_is_a_new_incarnation(own_pod: Pod, runtime: WordRuntime) -> None:
    (own_pod.claim / "word").write_text("word")
    server = await serve(runtime, own_pod.ports["grpc"])
    own_pod.start_adapter("puller")
    before = await own_pod.ready()
    await own_pod.load("m", "word")
    await server.stop(None)

    async def noticed() -> bool:
        return (await own_pod.state()).status == adapter_pb2.State.STARTING

    await until(noticed)
    await asyncio.sleep(0)
    again = await serve(runtime, own_pod.ports["grpc"])
    after = await own_pod.ready()
    assert after.incarnation != before.incarnation
    assert list(after.models) == []
    await again.stop(None)


async def test_a_stuck_runtime_whose_process_is_not_seen_counts_as_lost_and_says_what_to_do(
    own_pod: Pod, runtime: WordRuntime, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("word", "stuck"):
        (own_pod.claim / name).write_text(name)
    socket = tmp_path_factory.mktemp("s") / "s"
    server = await serve(runtime, socket)
    own_pod.start_adapter("puller", MODEL_SERVER_ENDPOINT=f"unix:{socket}", RECYCLE_MAX_SECONDS="1")
    await own_pod.ready()
    await own_pod.load("m", "word")
    code, _ = await refused(own_pod.load("stuck", "stuck"))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED

    async def failing() -> Any:
        state = await own_pod.state()
        return state if state.status == adapter_pb2.State.FAILING else None

    state = await until(failing)
    (incident,) = state.incidents
    assert [suspect.model_id for suspect in incident.suspects] == ["stuck"]
    assert state.message.startswith("the model server must be started anew: the load of stuck does not end")
    assert "its process cannot be seen or ended from here" in state.message
    assert "shareProcessNamespace" in state.message
    code, _ = await refused(own_pod.load("n", "word"))
    assert code is grpc.StatusCode.UNAVAILABLE
    await server.stop(None)
    runtime.freed.set()
    again = await serve(runtime, socket)
    after = await own_pod.ready()
    assert (after.recycling, len(after.incidents)) == ("", 1)
    await again.stop(None)


@pytest.fixture
def web() -> Iterator[FaultyServer]:
    """A store that is as slow as a test wants."""
    server = FaultyServer()
    server.files["/word"] = File(b"word")
    yield server
    server.close()


def key_of(web: FaultyServer) -> str:
    return model_key({"name": "word"}, type="http", url=web.url)


def cached(pod: Pod) -> list[bytes]:
    return [file.read_bytes() for file in (pod.root / "_cache" / "objects").iterdir()]


async def test_what_was_prefetched_is_loaded_without_fetching_it_again(
    words: Pod, runtime: WordRuntime, web: FaultyServer
) -> None:
    call = words.prefetch("m", "word", key_of(web))
    assert await call.read() == adapter_pb2.PrefetchResponse()
    assert cached(words) == [b"word"]
    assert (runtime.models, await words.loaded()) == ({}, set())
    assert not (words.root / "m").exists()
    await words.load("m", "word", key_of(web))
    call.cancel()
    assert runtime.models == {"m": "word"}
    assert len(web.downloads("/word")) == 1


async def test_a_load_waits_for_the_prefetch_under_way(words: Pod, runtime: WordRuntime, web: FaultyServer) -> None:
    hold = web.files["/word"].hold = threading.Event()
    call = words.prefetch("m", "word", key_of(web))

    async def downloads() -> bool:
        return bool(web.downloads("/word"))

    await until(downloads)
    loading = asyncio.ensure_future(words.load("m", "word", key_of(web)))

    async def looked_twice() -> bool:
        return len(web.requests) == 3

    await until(looked_twice)
    hold.set()
    await loading
    call.cancel()
    assert runtime.models == {"m": "word"}
    assert len(web.downloads("/word")) == 1


async def test_a_prefetch_that_is_cancelled_leaves_no_part(words: Pod, web: FaultyServer) -> None:
    web.files["/word"].hold = threading.Event()
    call = words.prefetch("m", "word", key_of(web))
    parts = words.root / "_cache" / "partial"

    async def begun() -> bool:
        return bool(list(parts.iterdir()))

    await until(begun)
    call.cancel()

    async def gone() -> bool:
        return not list(parts.iterdir())

    await until(gone)
    assert cached(words) == []


async def test_a_prefetch_ends_with_its_reason_or_as_there_is_nothing_to_fetch(words: Pod, web: FaultyServer) -> None:
    assert await words.prefetch("m", "word", model_key()).read() is grpc.aio.EOF
    for path, key, expected in (
        ("missing", key_of(web), grpc.StatusCode.FAILED_PRECONDITION),
        ("word", "{", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        code, message = await refused(words.prefetch("m", path, key).read())
        assert (code, bool(message)) == (expected, True)
