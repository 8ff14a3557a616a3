"""Nothing the management API acknowledged is lost by kill -9 of the mesh, whenever it comes."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest

from seeds import seed
from shoal_protos.mmesh import model_mesh_pb2 as pb
from shoal_protos.mmesh import model_mesh_pb2_grpc
from speed import times
from support.mesh import Client, free_subnet, model_info

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.search, pytest.mark.timeout(1200)]

KILLS = 2 * times(100)
WRITERS = 4
VICTIM = Path(__file__).parent.parent / "chaos_victim.py"


class Truth:
    """What was acknowledged, and what may or may not have happened because its answer never came."""

    def __init__(self):
        self.models = set()
        self.aliases = {}
        self.unsure_models = set()
        self.unsure_aliases = set()
        self.acknowledged = 0


async def write(management, truth, writer, rounds):
    """Register models, point aliases at them and delete some again, until the mesh dies."""
    while True:
        number = next(rounds)
        model, alias = f"m-{writer}-{number}", f"a-{writer}-{number % 5}"
        truth.unsure_models.add(model)
        await management.registerModel(pb.RegisterModelRequest(modelId=model, modelInfo=model_info(model)))
        truth.unsure_models.discard(model)
        truth.models.add(model)
        truth.unsure_aliases.add(alias)
        await management.setVModel(pb.SetVModelRequest(vModelId=alias, targetModelId=model, force=True))
        truth.unsure_aliases.discard(alias)
        truth.aliases[alias] = model
        truth.acknowledged += 2
        if number % 3 == 0:
            truth.unsure_aliases.add(alias)
            del truth.aliases[alias]
            await management.deleteVModel(pb.DeleteVModelRequest(vModelId=alias))
            truth.unsure_aliases.discard(alias)
            truth.acknowledged += 1


@contextlib.asynccontextmanager
async def victims(registry, host):
    """What starts one mesh after another."""
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(VICTIM), registry, host, stdin=pipe, stdout=pipe, stderr=nowhere
    )
    try:
        yield process
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)


async def verify(management, truth):
    """Everything acknowledged is there; nothing acknowledged as deleted is."""
    for model in truth.models:
        status = await management.getModelStatus(pb.GetStatusRequest(modelId=model))
        assert status.status != pb.ModelStatusInfo.NOT_FOUND, f"{model} was acknowledged and is lost"
    for writer in range(WRITERS):
        for slot in range(5):
            alias = f"a-{writer}-{slot}"
            if alias in truth.unsure_aliases:
                continue
            status = await management.getVModelStatus(pb.GetVModelStatusRequest(vModelId=alias))
            assert status.targetModelId == truth.aliases.get(alias, ""), alias


async def punish(starter, host, moments, kills):
    """Kill one mesh again and again while clients write. Returns how many writes were acknowledged."""
    truth = Truth()
    counters = [iter(range(10**9)) for _ in range(WRITERS)]
    for kill in range(kills):
        async with running(starter, host) as (mesh, management):
            # What was unsure is sure again once it was asked for and acknowledged anew.
            for alias in sorted(truth.unsure_aliases):
                await management.deleteVModel(pb.DeleteVModelRequest(vModelId=alias))
                truth.aliases.pop(alias, None)
            truth.unsure_aliases.clear()
            if kill % 20 == 0:
                await verify(management, truth)
            writers = [
                asyncio.create_task(write(management, truth, writer, counters[writer])) for writer in range(WRITERS)
            ]
            await asyncio.sleep(moments.uniform(0.0, 0.25))
            mesh.kill()
            ended = await asyncio.gather(*writers, return_exceptions=True)
            assert all(isinstance(error, grpc.aio.AioRpcError) for error in ended), ended
    async with running(starter, host) as (_, management):
        await verify(management, truth)
    return truth.acknowledged


class Mesh:
    """A mesh process."""

    def __init__(self, pid):
        self.pid = pid
        self.killed = False

    def kill(self):
        if not self.killed:
            self.killed = True
            os.kill(self.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def running(starter, host):
    starter.stdin.write(b"\n")
    async with asyncio.timeout(60):
        said = (await starter.stdout.readline()).split()
    assert said[:1] == [b"serving"], said
    mesh = Mesh(int(said[1]))
    client = Client(f"{host}:18034")
    try:
        yield mesh, model_mesh_pb2_grpc.ModelMeshStub(client.channel)
    finally:
        await client.close()
        mesh.kill()
        async with asyncio.timeout(30):
            assert await starter.stdout.readline() == b"ended\n"


async def punish_one(path, host, moments, kills):
    async with victims(f"sqlite:{path}", host) as starter:
        return await punish(starter, host, moments, kills)


async def test_nothing_acknowledged_is_lost_at_any_moment(tmp_path):
    chosen = seed(random.randrange(2**32))
    print(f"seed {chosen}; SHOAL_SEED={chosen} repeats it")
    # Two meshes at a time, as most of the time goes into starting them.
    acknowledged = await asyncio.gather(
        *(
            punish_one(tmp_path / name, f"{free_subnet()}.1", random.Random(f"{chosen} {name}"), KILLS // 2)
            for name in ("one.db", "two.db")
        )
    )
    assert sum(acknowledged) > KILLS
    print(f"{sum(acknowledged)} writes were acknowledged over {KILLS} kills, none was lost")
