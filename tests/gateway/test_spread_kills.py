"""Traffic spread over a thousand models, and what dies under it: a pod, the mesh, a gateway."""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.control import GatewayControl
from shoal.gateway.protocols import Upstream
from shoal.gateway.settings import Address
from shoal_protos import inference as oip
from support.gateway import Gateway, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server

NAMES = [f"model-{number}" for number in range(1000)]
CALLERS = 8


def revision(name: str) -> str:
    return f"{name}__isvc-3c10c62d34"


class Traffic:
    """Callers that ask one model after the other, and check whose answer they get."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._names = itertools.cycle(NAMES)
        self.answered: dict[str, int] = {}
        """By who answered."""
        self.failures: list[str] = []

    async def call(self) -> None:
        while True:
            name = next(self._names)
            request = oip.ModelInferRequest(model_name=name, id=name)
            try:
                answer = await self._stub.ModelInfer(request, timeout=30)
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{name}: {error.code().name} {error.details()}")
                await asyncio.sleep(0.05)
                continue
            if answer.id != name or answer.model_name not in (name, revision(name)):
                self.failures.append(f"{name}: {answer}")
            self.answered[answer.model_version] = self.answered.get(answer.model_version, 0) + 1

    async def more(self, count: int, by: str | None = None) -> None:
        """Wait until so many more are answered, all in all or by one."""

        def answers() -> int:
            return self.answered.get(by, 0) if by else sum(self.answered.values())

        wanted = answers() + count
        await until(lambda: answers() >= wanted, seconds=60)


class Pod:
    """A model server that can be killed."""

    def __init__(self, process: asyncio.subprocess.Process, address: Address) -> None:
        self.process = process
        self._address = address

    @classmethod
    @asynccontextmanager
    async def running(cls, name: str) -> AsyncIterator[Pod]:
        script = Path(__file__).parents[1] / "gateway_pod.py"
        process = await asyncio.create_subprocess_exec(sys.executable, script, name, stdin=PIPE, stdout=PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(" ".join(map(revision, NAMES)).encode())
            process.stdin.close()
            yield cls(process, Address.model_validate_json(await process.stdout.readline()))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def upstream(self, name: str) -> Upstream:
        return Upstream(revision(name), self._address.host, self._address.port, None)


class Scene:
    """Two pods with half of the models each, and traffic over all of them."""

    def __init__(self, gateway: Gateway, pods: tuple[Pod, Pod], traffic: Traffic) -> None:
        self.gateway = gateway
        self.pods = pods
        self.traffic = traffic

    def routes(self) -> dict[str | RouteKey, tuple[Upstream, ...]]:
        return {name: (self.pods[number % 2].upstream(name),) for number, name in enumerate(NAMES)}


@asynccontextmanager
async def playing() -> AsyncIterator[Scene]:
    # As a client that outlives a gateway has it: connections that are tried again soon.
    options = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
    async with (
        Pod.running("pod-0") as even,
        Pod.running("pod-1") as odd,
        running_gateway() as gateway,
        grpc.aio.insecure_channel(gateway.target, options=options) as channel,
    ):
        gateway.activator.revisions = {*NAMES, *map(revision, NAMES)}
        scene = Scene(gateway, (even, odd), Traffic(Stub(channel)))
        await gateway.route(scene.routes())
        async with asyncio.TaskGroup() as group:
            callers = [group.create_task(scene.traffic.call()) for _ in range(CALLERS)]
            await scene.traffic.more(len(NAMES))
            yield scene
            for caller in callers:
                caller.cancel()


async def test_a_pod_that_dies_fails_no_request():
    async with playing() as scene:
        scene.pods[1].process.kill()
        await scene.traffic.more(len(NAMES))
        for name in NAMES[1::2]:  # one change for each model, as the mesh publishes them
            scene.gateway.publish({name: ()})
        await scene.traffic.more(len(NAMES))
    assert scene.traffic.failures == []
    assert set(scene.traffic.answered) == {"pod-0", "pod-1", "activator"}


async def test_a_mesh_that_dies_and_comes_back_fails_no_request_and_moves_none():
    async with playing() as scene:
        gateway = scene.gateway
        await gateway.control.stop()
        await scene.traffic.more(len(NAMES))
        gateway.heard.acknowledged.clear()
        gateway.control = GatewayControl(gateway.settings, gateway.heard.callbacks)
        version = gateway.publish(scene.routes())
        await gateway.control.start()
        await until(lambda: gateway.control.connected)
        await gateway.acknowledged(version)
        await scene.traffic.more(len(NAMES))
    assert scene.traffic.failures == []
    assert set(scene.traffic.answered) == {"pod-0", "pod-1"}


async def test_a_gateway_that_is_started_again_has_all_routes_at_once():
    async with playing() as scene:
        await scene.gateway.stop_process()
        await until(lambda: scene.traffic.failures)
        await until(lambda: not scene.gateway.control.connected)
        await scene.gateway.start_process()
        await scene.traffic.more(1)
        failed = len(scene.traffic.failures)
        await scene.traffic.more(2 * len(NAMES))
    assert len(scene.traffic.failures) == failed
    assert all(": UNAVAILABLE " in failure for failure in scene.traffic.failures)
    assert set(scene.traffic.answered) == {"pod-0", "pod-1"}
