"""`mmesh.ModelMesh` against a real mesh and real pods: what upstream's own tests assert, and its status codes."""

import asyncio

import grpc
import pytest

from shoal_protos.mmesh import model_mesh_pb2 as pb
from support.mesh import model_info

pytestmark = pytest.mark.server
Status, VStatus = pb.ModelStatusInfo, pb.VModelStatusInfo


@pytest.fixture
async def mesh(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    return world.management


def register(mesh, name, *, load=False, sync=False, **spec):
    return mesh.registerModel(
        pb.RegisterModelRequest(modelId=name, modelInfo=model_info(name, **spec), loadNow=load, sync=sync)
    )


def alias(mesh, name, target, **more):
    return mesh.setVModel(pb.SetVModelRequest(vModelId=name, targetModelId=target, **more))


def status(mesh, name):
    return mesh.getModelStatus(pb.GetStatusRequest(modelId=name))


def vstatus(mesh, name, owner=""):
    return mesh.getVModelStatus(pb.GetVModelStatusRequest(vModelId=name, owner=owner))


async def code_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


async def test_life_of_a_model(mesh):
    unknown = await status(mesh, "m")
    assert (unknown.status, list(unknown.errors)) == (Status.NOT_FOUND, [])
    assert (await register(mesh, "m")).status == Status.NOT_LOADED
    assert (await register(mesh, "m")).status == Status.NOT_LOADED
    loaded = await mesh.ensureLoaded(pb.EnsureLoadedRequest(modelId="m", sync=True))
    assert loaded.status == Status.LOADED
    (copy,) = loaded.modelCopyInfos
    assert (copy.location, copy.copyStatus) == ("pod-1", Status.LOADED)
    assert copy.time > 1_700_000_000_000
    await mesh.unregisterModel(pb.UnregisterModelRequest(modelId="m"))
    assert (await status(mesh, "m")).status == Status.NOT_FOUND
    await mesh.unregisterModel(pb.UnregisterModelRequest(modelId="m"))


async def test_a_model_cannot_change_its_attributes(mesh):
    await register(mesh, "m")
    code, details = await code_of(register(mesh, "m", bytes=5))
    assert (code, "m already exists with different" in details) == (grpc.StatusCode.ALREADY_EXISTS, True)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (pb.RegisterModelRequest(modelInfo=pb.ModelInfo(type="rt:test")), "non-empty modelId"),
        (pb.RegisterModelRequest(modelId="m"), "modelInfo.type must not be empty"),
        (pb.RegisterModelRequest(modelId="m" * 600, modelInfo=pb.ModelInfo(type="rt:test")), "longer than 512"),
    ],
)
async def test_bad_registrations_name_the_field(mesh, request_, problem):
    code, details = await code_of(mesh.registerModel(request_))
    assert (code, problem in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_models_no_runtime_serves_fail_with_the_reason(mesh):
    request = pb.RegisterModelRequest(modelId="m", modelInfo=pb.ModelInfo(type="mt:onnx"), loadNow=True, sync=True)
    failed = await mesh.registerModel(request)
    assert (failed.status, list(failed.errors)) == (Status.LOADING_FAILED, ["no runtime serves mt:onnx"])


async def test_loading_in_the_background_and_failing(mesh):
    assert (await register(mesh, "slow", load=True, seconds=8)).status == Status.LOADING
    failed = await register(mesh, "bad", load=True, sync=True, fail="no such file")
    assert failed.status == Status.LOADING_FAILED
    assert len(failed.errors) == 1
    assert failed.errors[0].endswith("no such file")
    assert [(c.location, c.copyStatus) for c in failed.modelCopyInfos] == [("pod-1", Status.LOADING_FAILED)]
    assert await status(mesh, "bad") == failed
    unknown = mesh.ensureLoaded(pb.EnsureLoadedRequest(modelId="nobody"))
    assert (await code_of(unknown))[0] is grpc.StatusCode.NOT_FOUND


async def test_an_alias_moves_once_its_new_model_is_loaded(mesh, world):
    await register(mesh, "one")
    created = await alias(mesh, "a", "one", loadNow=True, sync=True)
    assert (created.status, created.activeModelId, created.targetModelId) == (VStatus.DEFINED, "one", "one")
    assert (await code_of(mesh.unregisterModel(pb.UnregisterModelRequest(modelId="one"))))[0] is (
        grpc.StatusCode.FAILED_PRECONDITION
    )
    assert await world.client.infer("a") == "one"

    moving = await alias(mesh, "a", "two", modelInfo=model_info("two", seconds=0.3), autoDeleteTargetModel=True)
    assert (moving.status, moving.activeModelId, moving.targetModelId) == (VStatus.TRANSITIONING, "one", "two")
    assert moving.activeModelStatus.status == Status.LOADED
    assert moving.targetModelStatus.status == Status.LOADING
    assert await world.client.infer("a") == "one"
    moved = await alias(mesh, "a", "two", sync=True)
    assert (moved.status, moved.activeModelId) == (VStatus.DEFINED, "two")
    assert not moved.HasField("targetModelStatus")
    assert await world.client.infer("a") == "two"
    assert await vstatus(mesh, "a") == moved

    # `one` was registered on its own and stays; `two` goes with the alias that brought it.
    assert (await status(mesh, "one")).status != Status.NOT_FOUND
    await mesh.unregisterModel(pb.UnregisterModelRequest(modelId="one"))
    await mesh.deleteVModel(pb.DeleteVModelRequest(vModelId="a"))
    assert (await vstatus(mesh, "a")).status == VStatus.NOT_FOUND
    assert (await status(mesh, "two")).status == Status.NOT_FOUND


async def test_an_alias_whose_new_model_fails_keeps_the_old_one(mesh, world):
    await alias(mesh, "a", "one", modelInfo=model_info("one"), loadNow=True, sync=True)
    failed = await alias(mesh, "a", "bad", modelInfo=model_info("bad", fail="broken"), loadNow=True, sync=True)
    assert (failed.status, failed.activeModelId, failed.targetModelId) == (VStatus.TRANSITION_FAILED, "one", "bad")
    assert failed.targetModelStatus.status == Status.LOADING_FAILED
    assert await world.client.infer("a") == "one"
    back = await alias(mesh, "a", "one", sync=True)
    assert (back.status, back.activeModelId) == (VStatus.DEFINED, "one")


async def test_an_alias_that_was_never_loaded_does_not_move_to_an_unproven_model(mesh, world):
    await alias(mesh, "a", "one", modelInfo=model_info("one"))
    moving = await alias(mesh, "a", "bad", modelInfo=model_info("bad", fail="broken"), sync=True)
    assert moving.activeModelId == "one"
    assert await world.client.infer("a") == "one"


async def test_preconditions_of_aliases(mesh):
    await register(mesh, "one")
    await register(mesh, "two")
    assert (await code_of(alias(mesh, "a", "one", updateOnly=True)))[0] is grpc.StatusCode.NOT_FOUND
    assert (await code_of(alias(mesh, "a", "nobody")))[0] is grpc.StatusCode.NOT_FOUND
    expecting = alias(mesh, "a", "one", expectedTargetModelId="two")
    assert (await code_of(expecting))[0] is grpc.StatusCode.FAILED_PRECONDITION
    await alias(mesh, "a", "one", expectedTargetModelId="one")
    wrong = alias(mesh, "a", "two", expectedTargetModelId="three")
    assert (await code_of(wrong))[0] is grpc.StatusCode.FAILED_PRECONDITION
    await alias(mesh, "a", "two", expectedTargetModelId="one")
    different = alias(mesh, "a", "one", modelInfo=model_info("other"))
    assert (await code_of(different))[0] is grpc.StatusCode.ALREADY_EXISTS
    assert (await code_of(alias(mesh, "", "one")))[0] is grpc.StatusCode.INVALID_ARGUMENT
    typeless = alias(mesh, "b", "new", modelInfo=pb.ModelInfo())
    assert (await code_of(typeless))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_owners_keep_aliases_apart(mesh):
    await register(mesh, "one")
    assert (await alias(mesh, "plain", "one")).owner == ""
    assert (await alias(mesh, "a", "one", owner="me")).owner == "me"
    assert (await alias(mesh, "a", "one")).owner == "me"
    code, details = await code_of(alias(mesh, "a", "one", owner="you"))
    assert (code, details) == (
        grpc.StatusCode.ALREADY_EXISTS,
        'vmodel a already exists with different owner "me"',
    )
    assert (await vstatus(mesh, "a", "me")).status == VStatus.DEFINED
    assert (await vstatus(mesh, "a", "you")).status == VStatus.NOT_FOUND
    await mesh.deleteVModel(pb.DeleteVModelRequest(vModelId="a", owner="you"))
    assert (await vstatus(mesh, "a")).status == VStatus.DEFINED
    await mesh.deleteVModel(pb.DeleteVModelRequest(vModelId="a", owner="me"))
    assert (await vstatus(mesh, "a")).status == VStatus.NOT_FOUND


async def test_forcing_moves_at_once(mesh, world):
    await alias(mesh, "a", "one", modelInfo=model_info("one"), loadNow=True, sync=True)
    forced = await alias(mesh, "a", "slow", modelInfo=model_info("slow", seconds=0.3), force=True, sync=True)
    assert (forced.status, forced.activeModelId) == (VStatus.DEFINED, "slow")
    assert await world.client.infer("a") == "slow"


async def test_requests_keep_being_answered_while_an_alias_moves_back_and_forth(mesh, world):
    await alias(mesh, "a", "v0", modelInfo=model_info("v0"), loadNow=True, sync=True)
    stop = asyncio.Event()
    answers = []

    async def ask():
        while not stop.is_set():
            answers.append(await world.client.infer("a"))

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    for version in range(1, 6):
        name = f"v{version}"
        await alias(mesh, "a", name, modelInfo=model_info(name), autoDeleteTargetModel=True, sync=True)
    stop.set()
    await asyncio.gather(*asking)
    assert list(dict.fromkeys(answers)) == sorted(set(answers))
    assert answers[-1] == "v5"


async def test_a_new_alias_and_its_new_model_are_one_durable_write(mesh, world, monkeypatch):
    registry = world.mesh._catalog._registry
    commit, written = registry.commit, []

    async def remember(operations, fence):
        written.append({operation.key for operation in operations})
        await commit(operations, fence)

    monkeypatch.setattr(registry, "commit", remember)
    await alias(mesh, "v", "m", modelInfo=model_info("x"))
    assert written == [{"endpoints/v", "models/m"}]


async def test_aliases_set_at_once_are_all_durable_and_none_is_mixed_up(mesh, world):
    calls = [alias(mesh, f"v{n}", f"m{n}", modelInfo=model_info("x"), autoDeleteTargetModel=True) for n in range(60)]
    calls += [alias(mesh, f"w{n}", "shared", modelInfo=model_info("x"), autoDeleteTargetModel=True) for n in range(20)]
    again = [alias(mesh, f"v{n}", "shared", modelInfo=model_info("x")) for n in range(0, 60, 2)]
    for answer in await asyncio.gather(*calls, *again):
        assert answer.status in (VStatus.DEFINED, VStatus.TRANSITIONING)
    await world.stop_mesh()
    await world.start_mesh()
    for n in range(60):
        found = await vstatus(world.management, f"v{n}")
        assert {found.activeModelId, found.targetModelId} - {""} <= {f"m{n}", "shared"}
        if n % 2:
            assert found.activeModelId == f"m{n}"
    for n in range(20):
        assert (await vstatus(world.management, f"w{n}")).activeModelId == "shared"
