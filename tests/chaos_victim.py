"""A mesh process to be killed: `python chaos_victim.py REGISTRY HOST`. Prints a line when it serves."""

import asyncio
import sys

from shoal.core.types import FailureReason, Unplaceable
from shoal.mesh.process import MeshProcess
from shoal.mesh.settings import MeshSettings


def choose(type_string):
    return "test" if type_string == "rt:test" else Unplaceable(FailureReason.NO_SUPPORTING_RUNTIME, "none")


async def main(registry, host):
    async with MeshProcess(MeshSettings(registry=registry, host=host, recovery_grace=0.1)) as mesh:
        mesh.set_runtimes(choose)
        mesh.synced()
        print("serving", flush=True)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
