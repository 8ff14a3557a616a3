"""What a model server was busy with when it died is told with the news that it is gone."""

import asyncio
import os
import signal

import grpc
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
from shoal_runtime import underway
from shoal_runtime.underway import Activity
from support.runtime import Pod

pytestmark = pytest.mark.server


@pytest.fixture
async def running(own_pod: Pod) -> Pod:
    own_pod.start_server()
    own_pod.start_adapter()
    await own_pod.ready()
    return own_pod


@pytest.mark.parametrize("how", ["exit", "segfault"])
async def test_a_load_that_kills_the_server_is_the_only_suspect(running: Pod, how: str) -> None:
    pod = running
    faulty_model(pod.claim / "bad", load=how)
    await pod.load("good", "mnist-svm.joblib")
    async with watching(pod) as seen:
        code, message, metadata = await failure(pod.load("bad", "bad", CUSTOM))
        told = (await pod.state()).incidents
        state = await first_loss(seen)
    (incident,) = state.incidents
    assert (incident.kind, incident.complete) == (State.Incident.DIED, True)
    assert suspects(incident) == {("bad", LOADING, 0)}
    assert incident.message.startswith("the model server died while loading bad")
    assert state.message == message == incident.message
    # The answer names the incident, which is told before.
    assert code is grpc.StatusCode.UNAVAILABLE
    assert metadata["shoal-incident"] == str(incident.id) == str(told[-1].id)
    if how == "segfault":
        assert pod.server is not None
        assert "Fatal Python error: Segmentation fault" in pod.server.log
        assert "faulty.py" in pod.server.log
    pod.start_server()
    after = await pod.ready()
    assert list(after.models) == []
    assert [one.id for one in after.incidents] == [incident.id]


@pytest.mark.parametrize("nth", [1, 100])
async def test_the_request_that_kills_the_server_is_charged_and_finished_ones_are_not(running: Pod, nth: int) -> None:
    pod = running
    faulty_model(pod.claim / "bad", predict="exit", nth=nth)
    await pod.load("bad", "bad", CUSTOM)
    await pod.load("good", "mnist-svm.joblib")
    async with watching(pod) as seen:
        for _ in range(nth - 1):
            await pod.infer("bad", BLANK)
            await pod.infer("good", BLANK)
        await failure(pod.infer("bad", BLANK))
        state = await first_loss(seen)
    (incident,) = state.incidents
    assert incident.complete
    assert suspects(incident) == {("bad", ANSWERING, 1)}
    assert incident.message.startswith("the model server died while answering 1 request to bad")


async def test_everything_under_way_is_suspect_when_the_server_is_killed(running: Pod) -> None:
    pod = running
    for name in ("first", "second"):
        faulty_model(pod.claim / name, off_loop=name == "first", until=str(pod.folder / "never"))
    faulty_model(pod.claim / "asked", seconds=60)
    await pod.load("asked", "asked", CUSTOM)
    await pod.load("idle", "mnist-svm.joblib")
    calls = [asyncio.ensure_future(failure(pod.infer("asked", BLANK))) for _ in range(3)]
    loads = [asyncio.ensure_future(failure(pod.load(name, name, CUSTOM))) for name in ("first", "second")]
    await busy_with(pod, "asked", Activity.ANSWERING, 3)
    for name in ("first", "second"):
        await busy_with(pod, name, Activity.LOADING)
    async with watching(pod) as seen:
        assert pod.server is not None
        pod.server.kill()
        state = await first_loss(seen)
    (incident,) = state.incidents
    assert incident.complete
    assert suspects(incident) == {("first", LOADING, 0), ("second", LOADING, 0), ("asked", ANSWERING, 3)}
    assert {(await load)[2]["shoal-incident"] for load in loads} == {str(incident.id)}
    await asyncio.gather(*calls)


async def test_an_unload_that_kills_the_server_is_charged(running: Pod) -> None:
    pod = running
    faulty_model(pod.claim / "bad", unload="exit")
    await pod.load("bad", "bad", CUSTOM)
    async with watching(pod) as seen:
        await failure(pod.unload("bad"))
        state = await first_loss(seen)
    assert suspects(state.incidents[-1]) == {("bad", LOADING, 0)}
    assert "while unloading bad" in state.incidents[-1].message


async def test_a_death_is_told_when_the_adapter_dies_with_the_server(running: Pod) -> None:
    pod = running
    faulty_model(pod.claim / "asked", seconds=60)
    faulty_model(pod.claim / "loads", until=str(pod.folder / "never"))
    await pod.load("asked", "asked", CUSTOM)
    calls = [asyncio.ensure_future(failure(pod.infer("asked", BLANK)))]
    calls.append(asyncio.ensure_future(failure(pod.load("loads", "loads", CUSTOM))))
    await busy_with(pod, "asked", Activity.ANSWERING)
    await busy_with(pod, "loads", Activity.LOADING)
    assert pod.adapter is not None
    assert pod.server is not None
    # Stopped first, so that neither the adapter sees the server die nor the server the adapter.
    os.kill(pod.adapter.pid, signal.SIGSTOP)
    pod.server.kill()
    pod.adapter.kill()
    await asyncio.gather(*calls)
    # The server is back first: its new notes do not replace the old ones.
    pod.start_server()
    pod.start_adapter()
    (incident,) = (await pod.ready()).incidents
    assert incident.kind == State.Incident.DIED
    assert suspects(incident) == {("asked", ANSWERING, 1), ("loads", LOADING, 0)}
    pod.adapter.kill()
    pod.start_adapter()
    assert [one.id for one in (await pod.ready()).incidents] == [incident.id]


async def test_incidents_keep_their_numbers_across_a_restart_of_the_adapter(running: Pod) -> None:
    pod = running
    faulty_model(pod.claim / "bad", load="exit")
    numbers = []
    for _ in range(2):
        _, _, metadata = await failure(pod.load("bad", "bad", CUSTOM))
        numbers.append(int(metadata["shoal-incident"]))
        assert pod.adapter is not None
        pod.adapter.kill()
        pod.start_server()
        pod.start_adapter()
        await pod.ready()
    assert numbers[1] == numbers[0] + 1
    assert [one.id for one in (await pod.state()).incidents] == numbers


async def test_a_planned_end_of_the_server_is_no_incident(running: Pod) -> None:
    pod = running
    faulty_model(pod.claim / "asked", seconds=60)
    await pod.load("asked", "asked", CUSTOM)
    call = asyncio.ensure_future(failure(pod.infer("asked", BLANK)))
    await busy_with(pod, "asked", Activity.ANSWERING)
    async with watching(pod) as seen:
        assert pod.server is not None
        os.kill(pod.server.pid, signal.SIGTERM)
        state = await first_loss(seen)
        pod.server.kill()
    await call
    pod.start_server()
    assert (list(state.incidents), list((await pod.ready()).incidents)) == ([], [])


async def test_a_stock_server_leaves_the_loads_only(own_pod: Pod) -> None:
    pod = own_pod
    pod.start_server(stock=True)
    pod.start_adapter()
    await pod.ready()
    faulty_model(pod.claim / "bad", load="exit")
    await pod.load("good", "mnist-svm.joblib")
    async with watching(pod) as seen:
        _, _, metadata = await failure(pod.load("bad", "bad", CUSTOM))
        state = await first_loss(seen)
    (incident,) = state.incidents
    assert not incident.complete
    assert suspects(incident) == {("bad", LOADING, 0)}
    assert metadata["shoal-incident"] == str(incident.id)
    assert "requests under way are not known" in incident.message


async def test_a_server_that_cannot_note_anything_serves_all_the_same(own_pod: Pod) -> None:
    pod = own_pod
    (pod.root / underway.FOLDER).touch()
    pod.start_server()
    pod.start_adapter()
    await pod.ready()
    await pod.load("good", "mnist-svm.joblib")
    assert len(await pod.infer("good", BLANK)) == 1
    assert pod.server is not None
    assert "cannot be noted" in pod.server.log
    async with watching(pod) as seen:
        pod.server.kill()
        assert not (await first_loss(seen)).incidents[-1].complete
