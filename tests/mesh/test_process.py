"""A whole mesh process in front of real model servers that speak plain `mmesh.ModelRuntime`: cold requests, eviction,
updates, failures, restarts. Gateways have tests of their own."""

import asyncio
import json
import time

import grpc
import httpx
import pytest

from shoal.core.events import Tick
from shoal_protos import inference as oip
from shoal_protos.mmesh import model_mesh_pb2 as pb
from support.mesh import MIB, Client, model_info
from waiting import until

pytestmark = pytest.mark.server
Status = pb.ModelStatusInfo


async def register(world, name, **spec):
    request = pb.RegisterModelRequest(modelId=name, modelInfo=model_info(name, **spec))
    return await world.management.registerModel(request)


async def set_alias(world, name, target, **more):
    return await world.management.setVModel(pb.SetVModelRequest(vModelId=name, targetModelId=target, **more))


async def last_uses(world):
    """When models were used last, as the mesh that runs now was told."""
    engine = world.mesh._engine
    await engine.apply(Tick())  # what was restored before is handled now
    return {name: engine.core.model(name).last_used for name in engine.core.models()}


def to_model(name):
    return [("mm-model-id", name)]


async def test_a_cold_request_loads_its_model_once_for_everyone_who_waits(world):
    pod = await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "slow", seconds=0.3)
    await set_alias(world, "digits", "slow")
    answers = await asyncio.gather(*(world.client.infer("digits") for _ in range(20)))
    assert set(answers) == {"slow"}
    assert pod.log.count("load slow") == 1


async def test_models_are_evicted_in_the_order_of_their_use(world):
    pod = await world.start_pod("pod-1", capacity=4 * MIB, concurrency=1)
    await world.start_mesh()
    for number in range(6):
        await register(world, f"m{number}", bytes=MIB)
    for number in (0, 1, 2, 0, 3, 4, 5, 0):
        assert await world.client.infer("x", metadata=to_model(f"m{number}")) == f"m{number}"
        assert len(pod.loaded) <= 4
    assert "m5" in pod.loaded
    assert "m0" in pod.loaded
    assert "m1" not in pod.loaded


async def test_failed_loads_are_tried_on_other_pods_then_reported(world):
    for number in range(2):
        await world.start_pod(f"pod-{number}")
    await world.start_mesh()
    await register(world, "bad", fail="the file is corrupt")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.infer("x", metadata=to_model("bad"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "the file is corrupt" in caught.value.details()
    attempts = [line for pod in world.pods.values() for line in pod.log if line == "load bad"]
    assert len(attempts) == 2
    status = await world.management.getModelStatus(pb.GetStatusRequest(modelId="bad"))
    assert status.status == Status.LOADING_FAILED
    assert "the file is corrupt" in status.errors[0]
    assert {info.copyStatus for info in status.modelCopyInfos} == {Status.LOADING_FAILED}


async def test_unknown_names_and_methods_get_their_codes(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.infer("nobody")
    assert (caught.value.code(), "nobody" in caught.value.details()) == (grpc.StatusCode.NOT_FOUND, True)
    assert dict(caught.value.initial_metadata()) == {"x-shoal-served": "cold"}  # gateways take it as final
    ask = world.client.channel.unary_unary("/test.Custom/Ask")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(b"hello")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    unload = world.client.channel.unary_unary("/mmesh.ModelRuntime/unloadModel")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unload(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_other_services_are_routed_by_header_and_see_the_concrete_model(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    await set_alias(world, "alias", "one")
    ask = world.client.channel.unary_unary("/test.Custom/Ask")
    assert await ask(b"hello", metadata=[("mm-vmodel-id", "alias"), ("color", "red")]) == b"one red hello"


async def test_streams_are_forwarded_with_the_name_in_every_message(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    await set_alias(world, "alias", "one")
    call = world.client.channel.stream_stream(
        oip.method_path("ModelStreamInfer"), lambda m: m.SerializeToString(), oip.ModelInferResponse.FromString
    )

    async def requests():
        for number in range(3):
            yield oip.ModelInferRequest(model_name="alias", id=str(number))

    assert [(r.id, r.model_name) async for r in call(requests())] == [("0", "one"), ("1", "one"), ("2", "one")]


async def test_a_request_at_a_pod_that_is_removed_goes_to_another(world):
    pod = await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    assert await world.client.infer("x", metadata=to_model("one")) == "one"
    await world.start_pod("pod-2")
    pod.infer_seconds = 60
    request = asyncio.create_task(world.client.infer("x", metadata=to_model("one"), timeout=20))
    await until(lambda: pod.answering, "the request arrives")
    world.mesh.pod_gone("pod-1")
    assert await request == "one"


async def test_a_request_whose_only_pod_is_killed_again_and_again_waits_for_its_return(world):
    pod = await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    pod.infer_seconds = 60
    request = asyncio.create_task(world.client.infer("x", metadata=to_model("one"), timeout=60))
    kills = world.settings.forward_attempts + 1
    for left in reversed(range(kills)):
        await until(lambda: pod.answering or request.done(), "the request arrives")
        await pod.stop()
        await until(lambda: world.mesh._engine.core.pod("pod-1") is None, "the mesh notices")
        pod.infer_seconds = 60 if left else 0
        await pod.start()
    assert await request == "one"
    assert pod.log.count("load one") == 1 + kills


async def test_a_request_for_a_runtime_whose_pods_do_not_return_is_told_so_at_its_deadline(world):
    pod = await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    await set_alias(world, "alias", "one")
    pod.infer_seconds = 60
    async with httpx.AsyncClient(base_url=f"http://{world.subnet}.1:18008", trust_env=False, timeout=20) as http:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
        deadline = {"x-request-timeout-seconds": "3"}
        request = asyncio.create_task(http.post("/v2/models/alias/infer", content=json.dumps(body), headers=deadline))
        await until(lambda: pod.answering, "the request arrives")
        await pod.stop()
        answer = await request
    assert answer.status_code == 504
    assert answer.json()["error"].startswith("alias was not loaded within ")
    assert answer.json()["error"].endswith("s; no pod of its runtime is there")


async def test_a_pod_that_lost_a_model_gets_it_again_unnoticed(world):
    pod = await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    for _ in range(2):
        assert await world.client.infer("x", metadata=to_model("one")) == "one"
        pod.loaded.clear()
    assert await world.client.infer("x", metadata=to_model("one")) == "one"
    assert pod.log.count("load one") == 3


async def test_a_model_that_answers_not_found_itself_is_not_loaded_anew(world):
    pod = await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one", missing="no such customer")
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.client.infer("x", metadata=to_model("one"))
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such customer")
    assert pod.log == ["load one"]


async def test_a_dead_pod_is_replaced_by_another(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    assert await world.client.infer("x", metadata=to_model("one")) == "one"
    await world.start_pod("pod-2")
    await world.pods["pod-1"].stop()
    assert await world.client.infer("x", metadata=to_model("one")) == "one"
    assert "one" in world.pods["pod-2"].loaded


async def test_deadlines_and_limits_of_waiting_are_kept(world):
    await world.start_pod("pod-1", concurrency=1)
    await world.start_mesh(max_waiting_per_revision=3)
    await register(world, "slow", seconds=1.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.client.infer("x", metadata=to_model("slow"), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    results = await asyncio.gather(
        *(world.client.infer("x", metadata=to_model("slow")) for _ in range(8)), return_exceptions=True
    )
    refused = [r for r in results if isinstance(r, grpc.aio.AioRpcError)]
    assert results.count("slow") == 3
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_a_client_that_waits_less_than_the_load_takes_is_told_that_the_load_goes_on(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "slow", seconds=1.0)
    await set_alias(world, "alias", "slow")
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    async with httpx.AsyncClient(base_url=f"http://{world.subnet}.1:18008", trust_env=False) as http:
        answer = await http.post("/v2/models/alias/infer", json=body, headers={"x-request-timeout-seconds": "0.3"})
        assert answer.status_code == 504
        assert answer.json() == {"error": "alias was not loaded within 0.3s; the load goes on"}
        assert (await http.post("/v2/models/alias/infer", json=body)).status_code == 200


async def test_declared_models_and_aliases_survive_a_restart(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    await set_alias(world, "alias", "one", owner="me")
    assert await world.client.infer("alias") == "one"
    await world.stop_mesh()
    await world.start_mesh()
    assert await world.client.infer("alias") == "one"
    status = await world.management.getVModelStatus(pb.GetVModelStatusRequest(vModelId="alias"))
    assert (status.owner, status.activeModelId, status.status) == ("me", "one", pb.VModelStatusInfo.DEFINED)


async def test_the_order_of_eviction_survives_a_stop_whose_pods_go_first(world):
    an_hour_ago = int(time.time() - 3600) * 1000

    async def use(name, second):
        at = an_hour_ago + second * 1000
        await world.management.ensureLoaded(pb.EnsureLoadedRequest(modelId=name, lastUsedTime=at, sync=True))

    await world.start_pod("pod-1", capacity=3 * MIB, concurrency=1)
    await world.start_mesh()
    for second, name in enumerate(("a", "b", "c", "d"), 1):
        await register(world, name, bytes=MIB)
        await use(name, second)
    await world.stop_mesh()
    await world.start_mesh()
    for second, name in enumerate(("c", "a", "d"), 10):
        await use(name, second)
    before = await last_uses(world)
    world.mesh.pod_gone("pod-1")  # as the embedded cluster stops: pods before the mesh
    await world.stop_mesh()
    await world.start_mesh()
    assert await last_uses(world) == before
    assert sorted(before, key=before.__getitem__)[-3:] == ["c", "a", "d"]


async def test_the_admin_api_says_what_is_where_and_why(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    await set_alias(world, "alias", "one")
    await world.client.infer("alias")
    async with httpx.AsyncClient(base_url=f"http://{world.subnet}.1:18080", trust_env=False) as http:
        copies = (await http.get("/copies")).json()["copies"]
        assert [(c["revision"], c["pod"], c["state"], c["sizeBytes"]) for c in copies] == [
            ("one", "pod-1", "Loaded", MIB)
        ]
        (pod,) = (await http.get("/pods")).json()["pods"]
        assert (pod["usedBytes"], pod["copies"], pod["capacityBytes"]) == (MIB, 1, 100 * MIB)
        decisions = (await http.get("/why/alias")).json()["decisions"]
        assert any(d["what"] == "load" and d["chosen"] == "pod-1" for d in decisions)
        assert (await http.get("/why/nobody")).status_code == 404
        assert (await http.post("/endpoints/nobody/load")).status_code == 404
        metrics = (await http.get("/metrics")).text
        assert "modelmesh_models_loaded_total 1.0" in metrics
        assert 'modelmesh_instance_used_bytes{pod="pod-1",runtime="test"}' in metrics
        assert 'modelmesh_loadmodel_milliseconds_count{pod="pod-1",runtime="test"} 1.0' in metrics
        assert (await http.get("/readyz")).status_code == 200


async def test_the_admin_api_loads_what_is_not_loaded(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    await set_alias(world, "alias", "one")
    async with httpx.AsyncClient(base_url=f"http://{world.subnet}.1:18080", trust_env=False) as http:
        answer = await http.post("/endpoints/alias/load")
        assert (answer.status_code, answer.json()) == (202, {"revision": "one", "loaded": False})
        assert (await world.management.ensureLoaded(pb.EnsureLoadedRequest(modelId="one", sync=True))).status == (
            pb.ModelStatusInfo.LOADED
        )
        assert (await http.post("/endpoints/alias/load")).json() == {"revision": "one", "loaded": True}
        lines = (await http.get("/metrics")).text.splitlines()
        assert 'modelmesh_loadmodel_milliseconds_count{pod="pod-1",runtime="test"} 1.0' in lines


async def test_standard_rest_works_for_servers_that_only_speak_grpc(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await register(world, "one")
    await set_alias(world, "alias", "one")
    async with httpx.AsyncClient(base_url=f"http://{world.subnet}.1:18008", trust_env=False) as http:
        body = {"id": "7", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
        answer = await http.post("/v2/models/alias/infer", content=json.dumps(body))
        assert answer.json() == {
            "model_name": "one",
            "id": "7",
            "outputs": [{"name": "answer", "datatype": "BYTES", "shape": [1], "data": ["one"]}],
        }
        assert (await http.get("/v2/models/alias")).json()["platform"] == "test"
        assert (await http.get("/v2/models/alias/ready")).json() == {"name": "alias", "ready": True}
        assert (await http.get("/v2/health/ready")).json() == {"ready": True}
        index = (await http.post("/v2/repository/index")).json()
        assert index == [{"name": "alias", "version": "one", "state": "READY", "reason": ""}]
        missing = await http.post("/v2/models/nobody/infer", content=json.dumps(body))
        assert (missing.status_code, "nobody" in missing.json()["error"]) == (404, True)
        assert missing.headers["x-shoal-served"] == "cold"  # gateways take it as final
        bad = await http.post("/v2/models/alias/infer", content=b"{")
        assert (bad.status_code, "not JSON" in bad.json()["error"]) == (400, True)
        nowhere = await http.get("/v3")
        assert (nowhere.status_code, "/v3" in nowhere.json()["error"]) == (404, True)


async def test_a_second_address_serves_the_same_management_api(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    client = Client(f"{world.subnet}.1:18034")
    legacy = client.channel.unary_unary(
        "/com.ibm.watson.tas.proto.TasRuntime/addModel",
        pb.RegisterModelRequest.SerializeToString,
        pb.ModelStatusInfo.FromString,
    )
    answer = await legacy(pb.RegisterModelRequest(modelId="one", modelInfo=model_info("one"), loadNow=True, sync=True))
    await client.close()
    assert answer.status == Status.LOADED
