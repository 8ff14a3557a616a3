"""Meshes to be killed: `python chaos_victim.py REGISTRY HOST` starts one for each line that it reads.

Prints `serving PID` when one serves, and `ended` once it is killed. Each is a fork of this process, as most of the time
would go into importing what it needs.
"""

import asyncio
import os
import sys

from shoal.core.types import FailureReason, Unplaceable
from shoal.mesh.serve.process import MeshProcess
from shoal.mesh.serve.settings import MeshSettings


def choose(type_string):
    return "test" if type_string == "rt:test" else Unplaceable(FailureReason.NO_SUPPORTING_RUNTIME, "none")


async def serve(registry, host):
    async with MeshProcess(MeshSettings(registry=registry, host=host, recovery_grace=0.1)) as mesh:
        mesh.set_runtimes(choose)
        mesh.synced()
        print("serving", os.getpid(), flush=True)
        await asyncio.Event().wait()


def main(registry, host):
    while sys.stdin.readline():
        pid = os.fork()
        if not pid:
            asyncio.run(serve(registry, host))
        os.waitpid(pid, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
