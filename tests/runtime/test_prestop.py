"""A stopping pod waits for the mesh, but not for ever."""

import asyncio

import httpx
import pytest

from shoal_protos.adapter import adapter_pb2
from support.runtime import HOST, Pod
from waiting import until

pytestmark = pytest.mark.server


async def test_the_hook_returns_when_released_or_after_its_time(own_pod: Pod) -> None:
    pod = own_pod
    pod.start_adapter(PRESTOP_MAX_SECONDS="0.3")
    base = f"http://{HOST}:{pod.ports['prestop']}"
    async with httpx.AsyncClient(base_url=base, timeout=20, trust_env=False) as client:

        async def answers() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers)
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/nope")).status_code == 404
        assert (await client.post("/prestop")).status_code == 405
        assert "going anyway" in (await client.get("/prestop")).text
        await pod.watch.release(adapter_pb2.ReleaseRequest())
        assert (await client.get("/prestop")).text == "released\n"


async def test_a_release_ends_a_wait_under_way(own_pod: Pod) -> None:
    pod = own_pod
    pod.start_adapter(PRESTOP_MAX_SECONDS="60")
    await pod.state()
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        waiting = asyncio.ensure_future(client.get(f"http://{HOST}:{pod.ports['prestop']}/prestop"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await pod.watch.release(adapter_pb2.ReleaseRequest())
        assert (await waiting).text == "released\n"
