"""A model server as a process of its own, so that it can be killed: `gateway_pod.py NAME`, with revisions on stdin."""

from __future__ import annotations

import asyncio
import sys

from support.gateway import ModelServer


async def main(name: str) -> None:
    server = ModelServer(*sys.stdin.read().split(), name=name)
    await server.start()
    print(server.address.model_dump_json(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
