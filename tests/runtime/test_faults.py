"""What is loaded and what is said to be loaded stay the same through cancellations, kills and restarts."""

import asyncio
import json
import os
import signal
from pathlib import Path

import grpc
import pytest

from shoal_protos import inference
from shoal_protos.adapter import adapter_pb2
from support.runtime import Pod, model_key, refused, slow_model
from waiting import until

pytestmark = pytest.mark.server

BLANK = [[0.0] * 64]


@pytest.fixture(params=[False, True], ids=["cured", "stock"])
async def either_pod(request: pytest.FixtureRequest, own_pod: Pod) -> Pod:
    """A pod with Shoal's MLServer, and one with stock MLServer as in upstream's images."""
    own_pod.start_server(stock=request.param)
    own_pod.start_adapter()
    await own_pod.ready()
    return own_pod


def resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) * 1024


@pytest.mark.parametrize("how", ["sleep", "block"])
async def test_a_cancelled_load_then_unload_leaves_nothing(either_pod: Pod, how: str) -> None:
    pod = either_pod
    slow_model(pod.claim / "slow", off_loop=True, mb=200, **{how: 1.0})
    await pod.load("warm", "mnist-svm.joblib")
    assert pod.server is not None
    before = resident(pod.server.pid)
    call = pod.load("slow", "slow", model_key("custom"))

    async def loading() -> bool:
        assert pod.server is not None
        return resident(pod.server.pid) - before > 150 * 1024 * 1024

    await until(loading)
    call.cancel()
    await pod.unload("slow")
    assert await pod.loaded() == {"warm"}
    code, _ = await refused(pod.infer("slow", BLANK))
    assert code is grpc.StatusCode.NOT_FOUND
    assert not list(pod.root.glob("slow*"))
    assert [path.name for path in (pod.root / "_mlserver_models").iterdir()] == ["warm"]

    async def given_back() -> bool:
        assert pod.server is not None
        return resident(pod.server.pid) - before < 100 * 1024 * 1024

    await until(given_back, seconds=10)
    live = await pod.method("ServerReady")(inference.ServerReadyRequest())
    assert live.ready


async def test_a_load_beyond_its_time_is_undone(own_pod: Pod) -> None:
    pod = own_pod
    slow_model(pod.claim / "slow", off_loop=True, sleep=30)
    pod.start_server()
    pod.start_adapter(LOADTIME_TIMEOUT="500")
    await pod.ready()
    code, message = await refused(pod.load("slow", "slow", model_key("custom")))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "0.5 s" in message
    assert await pod.loaded() == set()
    assert not list((pod.root / "_mlserver_models").iterdir())


async def test_a_restarted_adapter_adopts_what_is_loaded_and_drops_the_rest(either_pod: Pod) -> None:
    pod = either_pod
    sizes = {name: (await pod.load(name, "mnist-svm.joblib")).sizeInBytes for name in ("a", "b", "c")}
    before = await pod.state()
    assert pod.adapter is not None
    pod.adapter.kill()
    # Behind the adapter's back: `b` leaves the server, the files of `c` get lost, and scraps of a pull lie about.
    await pod.method("RepositoryModelUnload")(inference.RepositoryModelUnloadRequest(model_name="b"))
    (pod.root / "_mlserver_models" / "c" / "model-settings.json").unlink()
    (pod.root / "stale").mkdir()
    (pod.root / "stale" / "half").touch()
    pod.start_adapter()
    after = await pod.ready()
    assert {model.model_id: model.size_bytes for model in after.models} == {"a": sizes["a"]}
    assert after.incarnation == before.incarnation
    assert len(await pod.infer("a", BLANK)) == 1
    assert {path.name for path in pod.root.iterdir() if not path.name.startswith("_")} == {"a"}
    assert {path.name for path in (pod.root / "_mlserver_models").iterdir()} == {"a"}


async def test_a_killed_model_server_is_a_new_empty_incarnation(either_pod: Pod) -> None:
    pod = either_pod
    await pod.load("a", "mnist-svm.joblib")
    before = await pod.state()
    seen = []

    async def watch() -> None:
        async for state in pod.watch.watchState(adapter_pb2.WatchStateRequest()):
            seen.append(state)  # noqa: PERF401 -- others look at the list meanwhile

    watching = asyncio.create_task(watch())

    async def seen_once() -> bool:
        return bool(seen)

    await until(seen_once)
    assert pod.server is not None
    pod.server.kill()

    async def noticed() -> bool:
        return (await pod.state()).status == adapter_pb2.State.STARTING

    await until(noticed, seconds=5)
    code, message = await refused(pod.load("b", "mnist-svm.joblib"))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "not ready" in message
    pod.start_server(stock=pod.stock)
    after = await pod.ready()
    assert after.incarnation != before.incarnation
    assert list(after.models) == []
    assert not list(pod.root.glob("a*"))
    await pod.load("a", "mnist-svm.joblib")
    assert len(await pod.infer("a", BLANK)) == 1
    watching.cancel()
    statuses = [state.status for state in seen]
    assert statuses[0] == adapter_pb2.State.READY
    assert adapter_pb2.State.STARTING in statuses


async def test_a_model_server_killed_in_mid_load_fails_that_load(own_pod: Pod) -> None:
    pod = own_pod
    slow_model(pod.claim / "slow", sleep=30)
    server = pod.start_server()
    pod.start_adapter()
    await pod.ready()
    call = pod.load("slow", "slow", model_key("custom"))

    async def loading() -> bool:
        return (pod.root / "_mlserver_models" / "slow" / "model-settings.json").exists()

    await until(loading)
    server.kill()
    code, _ = await refused(call)
    assert code is grpc.StatusCode.UNAVAILABLE
    pod.start_server()
    assert list((await pod.ready()).models) == []


async def test_many_loads_and_unloads_of_few_models_end_as_they_should(own_pod: Pod) -> None:
    pod = own_pod
    pod.start_server()
    pod.start_adapter()
    await pod.ready()

    async def churn(name: str, end_loaded: bool) -> None:
        for number in range(8):
            call = pod.load(name, "mnist-svm.joblib")
            if number % 3 == 1:
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            else:
                await call
            await pod.unload(name)
        if end_loaded:
            await pod.load(name, "mnist-svm.joblib")

    await asyncio.gather(*(churn(f"m{number}", number % 2 == 0) for number in range(8)))
    assert await pod.loaded() == {"m0", "m2", "m4", "m6"}
    index = await pod.method("RepositoryIndex")(inference.RepositoryIndexRequest())
    assert {model.name for model in index.models if "READY" in model.state} == {"m0", "m2", "m4", "m6"}
    assert {path.name for path in (pod.root / "_mlserver_models").iterdir()} == {"m0", "m2", "m4", "m6"}


async def test_sigterm_ends_the_adapter_in_order_and_leaves_models_loaded(own_pod: Pod) -> None:
    pod = own_pod
    pod.start_server()
    adapter = pod.start_adapter()
    await pod.ready()
    await pod.load("a", "mnist-svm.joblib")
    os.kill(adapter.pid, signal.SIGTERM)
    assert await asyncio.to_thread(adapter.stop) == 0
    assert "Traceback" not in adapter.log
    assert len(await pod.infer("a", BLANK)) == 1


async def test_a_damaged_journal_means_the_model_is_dropped(own_pod: Pod) -> None:
    pod = own_pod
    pod.start_server()
    adapter = pod.start_adapter()
    await pod.ready()
    for name in ("a", "b"):
        await pod.load(name, "mnist-svm.joblib")
    adapter.kill()
    (pod.root / "_shoal/models/a.json").write_text('{"model_id": "a"')
    (pod.root / "_shoal/models/junk.json").write_text(json.dumps([1]))
    pod.start_adapter()
    assert {model.model_id for model in (await pod.ready()).models} == {"b"}
    code, _ = await refused(pod.infer("a", BLANK))
    assert code is grpc.StatusCode.NOT_FOUND
