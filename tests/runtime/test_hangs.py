"""A load that never returns frees its slot, is told, and costs the others as little as can be."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from runtime_faulty import (
    ANSWERING,
    BLANK,
    CUSTOM,
    LOADING,
    State,
    busy_with,
    failure,
    faulty_model,
    first_loss,
    suspects,
    watching,
)
from shoal_protos import inference
from shoal_protos.adapter import adapter_pb2
from shoal_runtime import underway
from shoal_runtime.drivers.channel import PROBE_SECONDS, ServerChannel
from shoal_runtime.underway import Activity
from support.runtime import HOST, Pod, free_port
from waiting import until

pytestmark = pytest.mark.server


async def start(pod: Pod, *, stock: bool = False, **adapter: str) -> None:
    pod.start_server(stock=stock)
    pod.start_adapter(**adapter)
    await pod.ready()


async def ended(pod: Pod) -> None:
    """Waits until the server's process is gone."""

    async def gone() -> bool:
        assert pod.server is not None
        return not pod.server.running()

    await until(gone, seconds=30)


async def stuck_load(pod: Pod) -> Any:
    """Loads a good model, then one whose load never returns. Returns the state after the failure."""
    await pod.load("good", "mnist-svm.joblib")
    faulty_model(pod.claim / "bad", off_loop=True, load="block")
    code, message, metadata = await failure(pod.load("bad", "bad", CUSTOM))
    assert (code, "not loaded within 1 s" in message) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)
    state = await pod.state()
    assert metadata["shoal-incident"] == str(state.incidents[-1].id)
    return state


async def test_a_load_that_never_returns_is_given_up_and_its_server_recycled_when_released(own_pod: Pod) -> None:
    pod = own_pod
    await start(pod, LOADTIME_TIMEOUT="1000", LOADING_CONCURRENCY="1")
    state = await stuck_load(pod)
    (incident,) = state.incidents
    assert (state.status, incident.kind) == (State.READY, State.Incident.HUNG)
    assert suspects(incident) == {("bad", LOADING, 0)}
    wanted = "the model server must be started anew: the load of bad does not end and cannot be given up"
    assert state.recycling.startswith(wanted)
    assert state.recycling == f"the model server must be started anew: {incident.message}"
    # What is loaded is served, nothing new is taken, and the slot of the load is free: the refusal comes at once.
    assert [model.model_id for model in state.models] == ["good"]
    assert len(await pod.infer("good", BLANK)) == 1
    code, message, metadata = await failure(pod.load("other", "mnist-svm.joblib", timeout=5))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert message == f"this pod takes no new models now: {state.recycling}"
    assert "shoal-incident" not in metadata
    code, message, _ = await failure(pod.unload("bad"))
    assert (code, "goes when the model server is started anew" in message) == (grpc.StatusCode.UNAVAILABLE, True)
    await pod.unload("good")
    async with watching(pod) as seen:
        await pod.watch.release(adapter_pb2.ReleaseRequest())
        await ended(pod)
        lost = await first_loss(seen)
    pod.start_server()
    after = await pod.ready()
    assert after.recycling == ""
    # The end was meant: it is no death.
    assert [one.id for one in lost.incidents] == [one.id for one in after.incidents] == [incident.id]
    await pod.load("good", "mnist-svm.joblib")
    assert len(await pod.infer("good", BLANK)) == 1


async def test_a_server_that_nobody_releases_is_recycled_after_a_while(own_pod: Pod) -> None:
    pod = own_pod
    await start(pod, LOADTIME_TIMEOUT="1000", RECYCLE_MAX_SECONDS="2")
    await stuck_load(pod)
    await ended(pod)
    pod.start_server()
    after = await pod.ready()
    assert (after.recycling, len(after.incidents)) == ("", 1)


async def test_an_adapter_that_starts_beside_a_stuck_server_goes_on_and_says_so(own_pod: Pod) -> None:
    pod = own_pod
    await start(pod, LOADTIME_TIMEOUT="1000")
    await stuck_load(pod)
    assert pod.adapter is not None
    pod.adapter.kill()
    pod.start_adapter(LOADTIME_TIMEOUT="1000")
    state = await pod.ready()
    assert "the load of bad does not end" in state.recycling
    assert len(state.incidents) == 1
    assert [model.model_id for model in state.models] == ["good"]
    assert len(await pod.infer("good", BLANK)) == 1


async def test_loads_that_wait_behind_a_stuck_one_are_not_charged(own_pod: Pod) -> None:
    pod = Pod(own_pod.folder, SHOAL_LOAD_THREADS="1")
    own_pod.stop()
    pod.connect()
    try:
        await start(pod, LOADTIME_TIMEOUT="3000")
        faulty_model(pod.claim / "bad", off_loop=True, load="block")
        bad = asyncio.ensure_future(failure(pod.load("bad", "bad", CUSTOM)))
        await busy_with(pod, "bad", Activity.LOADING)
        _, _, metadata = await failure(pod.load("innocent", "mnist-svm.joblib"))
        assert "shoal-incident" not in metadata
        assert (await bad)[2]["shoal-incident"] == "1"
        (incident,) = (await pod.state()).incidents
        assert suspects(incident) == {("bad", LOADING, 0)}
    finally:
        await pod.disconnect()
        pod.stop()


@pytest.mark.parametrize("stock", [False, True], ids=["cured", "stock"])
async def test_a_load_that_blocks_the_whole_server_has_it_ended_at_once(own_pod: Pod, stock: bool) -> None:
    pod = own_pod
    await start(pod, stock=stock, LOAD_BLOCKS_SECONDS="2")
    await pod.load("good", "mnist-svm.joblib")
    faulty_model(pod.claim / "bad", load="block")
    async with watching(pod) as seen:
        code, message, metadata = await failure(pod.load("bad", "bad", CUSTOM))
        state = await first_loss(seen)
        await ended(pod)
    (incident,) = state.incidents
    assert (incident.kind, incident.complete) == (State.Incident.HUNG, not stock)
    assert suspects(incident) == {("bad", LOADING, 0)}
    assert incident.message.startswith("the model server has answered nothing for ")
    assert "s while loading bad" in incident.message
    assert "set `load_off_loop = True` on the model's class" in incident.message
    assert (code, message) == (grpc.StatusCode.UNAVAILABLE, incident.message)
    assert metadata["shoal-incident"] == str(incident.id)
    pod.start_server(stock=stock)
    assert len((await pod.ready()).incidents) == 1


async def test_a_load_over_its_time_that_blocks_the_whole_server_is_one_incident(own_pod: Pod) -> None:
    pod = own_pod
    await start(pod, LOADTIME_TIMEOUT="500", LOAD_BLOCKS_SECONDS="8")
    faulty_model(pod.claim / "bad", load="block")
    code, _, metadata = await failure(pod.load("bad", "bad", CUSTOM))
    assert code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    await ended(pod)
    pod.start_server()
    (incident,) = (await pod.ready()).incidents
    assert metadata["shoal-incident"] == str(incident.id)
    assert suspects(incident) == {("bad", LOADING, 0)}


async def test_requests_that_block_the_whole_server_are_charged_and_it_is_ended(own_pod: Pod) -> None:
    pod = own_pod
    await start(pod, HANG_SECONDS="3")
    faulty_model(pod.claim / "bad", predict="block")
    await pod.load("bad", "bad", CUSTOM)
    async with watching(pod) as seen:
        request = asyncio.ensure_future(failure(pod.infer("bad", BLANK)))
        state = await first_loss(seen)
        await ended(pod)
    await request
    (incident,) = state.incidents
    assert (incident.kind, incident.complete) == (State.Incident.HUNG, True)
    assert suspects(incident) == {("bad", ANSWERING, 1)}
    assert incident.message.startswith("the model server has answered nothing for ")
    assert "s while answering 1 request to bad" in incident.message


async def test_a_failed_load_whose_clean_up_hangs_is_charged(own_pod: Pod) -> None:
    pod = own_pod
    await start(pod, LOADTIME_TIMEOUT="1000")
    faulty_model(pod.claim / "bad", load="raise", unload_seconds=600)
    _, _, metadata = await failure(pod.load("bad", "bad", CUSTOM))
    state = await pod.state()
    assert metadata["shoal-incident"] == str(state.incidents[-1].id)
    assert suspects(state.incidents[-1]) == {("bad", LOADING, 0)}
    assert state.recycling


@pytest.mark.slow
async def test_an_unload_that_never_returns_is_charged(own_pod: Pod) -> None:
    pod = own_pod
    await start(pod)
    faulty_model(pod.claim / "bad", unload_seconds=600)
    await pod.load("bad", "bad", CUSTOM)
    code, message, metadata = await failure(pod.unload("bad"))
    state = await pod.state()
    assert (code, "the unload of bad does not end" in message) == (grpc.StatusCode.UNAVAILABLE, True)
    assert metadata["shoal-incident"] == str(state.incidents[-1].id)
    assert "the unload of bad does not end" in state.recycling
    assert await pod.loaded() == set()


async def test_a_server_that_is_told_to_ends_itself(own_pod: Pod) -> None:
    """For pods in which the adapter sees no process of the server."""
    pod = own_pod
    server = pod.start_server()

    async def noting() -> list[Path]:
        return underway.files(pod.root / underway.FOLDER)

    (path,) = await until(noting)
    underway.end_at_once(path)
    await ended(pod)
    assert server.stop() == -signal.SIGKILL


async def test_a_server_whose_probe_fails_is_not_lost() -> None:
    """A server that answers "are you live" with an error is one that answers."""
    asked = 0

    async def live(request: Any, context: Any) -> Any:
        nonlocal asked
        asked += 1
        await context.abort(grpc.StatusCode.INTERNAL, "no")

    handler = grpc.unary_unary_rpc_method_handler(live)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(inference.SERVICE, {"ServerLive": handler})])
    port = free_port()
    server.add_insecure_port(f"{HOST}:{port}")
    await server.start()
    connection = ServerChannel(f"{HOST}:{port}", "the server")
    method = connection.channel.unary_unary(inference.method_path("ServerLive"))
    await connection.answers(method, b"")
    lost = asyncio.ensure_future(connection.lost(method, b"", lambda silent: False))
    await asyncio.wait([lost], timeout=PROBE_SECONDS + 1)
    assert (lost.done(), asked) == (False, 2)
    await server.stop(None)
    assert "broke" in (await lost).why
    await connection.close()


async def test_an_adapter_that_starts_beside_a_blocked_server_has_it_ended(own_pod: Pod) -> None:
    pod = own_pod
    await start(pod)
    faulty_model(pod.claim / "bad", load="block")
    load = asyncio.ensure_future(failure(pod.load("bad", "bad", CUSTOM)))
    await busy_with(pod, "bad", Activity.LOADING)
    assert pod.adapter is not None
    pod.adapter.kill()
    await load
    pod.start_adapter(LOAD_BLOCKS_SECONDS="2")
    await ended(pod)
    pod.start_server()
    (incident,) = (await pod.ready()).incidents
    assert (incident.kind, suspects(incident)) == (State.Incident.HUNG, {("bad", LOADING, 0)})
