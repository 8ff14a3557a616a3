"""What it costs a gateway how a request names its model: in the message, in a header, in the path of REST."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from bench.envoys import Gateway, Pod
from bench.load import REVISION, Load, Seen, model, send
from bench.processes import connections
from bench.rows import Row, at_most
from bench.turns import Turns, four
from shoal.core.types import RouteKey

_FORMS = {
    "message": "in the message",
    "mm-vmodel-id": "in mm-vmodel-id",
    "mm-model-id": "in mm-model-id",
    "json": "in REST's path, V2 JSON",
    "contents": "in REST's path, protobuf's JSON",
}
_REST = ("json", "contents")
WANTED = 1_000
"""So many revisions, and models over V2 JSON, a gateway routes itself; for others the mesh answers."""
_IN_FLIGHT, _CONNECTIONS = 16, 4
_WARM_UP_SECONDS = 60.0


async def forms(gateway: Gateway, pods: list[Pod], models: tuple[int, ...], requests: int, turns: int) -> list[Row]:
    """Rows of each way to name a model, over each number of models."""
    for number in range(max(models)):
        gateway.control.want_http(RouteKey(model(number)))
        gateway.control.want_revision(model(number) + REVISION)
    loads = [_load(form, count, requests) for form in _FORMS for count in models]
    for load in loads:
        await _warm_up(gateway, pods, load)
    seen = Turns()
    for turn in range(turns):
        for load in loads:
            seen.add("gateway", load, await _ask(gateway, pods, replace(load, seed=turn + 1)))
            if load.form in ("message", "json"):
                seen.add("direct", load, await _direct(pods[0], replace(load, seed=turn + 1)))
    return list(_rows(gateway, pods, loads, seen))


def _load(form: str, models: int, requests: int) -> Load:
    clients = _IN_FLIGHT if form in _REST else _CONNECTIONS
    asked = REVISION if form == "mm-model-id" else ""
    return Load(
        requests=requests, models=models, form=form, in_flight=_IN_FLIGHT, connections=clients, asked=asked
    )  # fmt: skip


async def _warm_up(gateway: Gateway, pods: list[Pod], load: Load) -> None:
    """Until each model is answered: what is wanted takes a moment to be routed."""
    each = replace(load, requests=max(load.models, _IN_FLIGHT), spread="each")
    async with asyncio.timeout(_WARM_UP_SECONDS):
        while (await _ask(gateway, pods, each)).failed:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _ask(gateway: Gateway, pods: list[Pod], load: Load) -> Seen:
    settings = gateway.settings
    address = settings.rest if load.form in _REST else settings.grpc
    return await send(load, address.port, gateway.pid, *(pod.pid for pod in pods))


async def _direct(pod: Pod, load: Load) -> Seen:
    port = pod.http_port if load.form in _REST else pod.grpc_port
    return await send(replace(load, asked=REVISION), port, pod.pid)


def _rows(gateway: Gateway, pods: list[Pod], loads: list[Load], seen: Turns) -> Iterator[Row]:
    for load in loads:
        words = f"{load.models:,} model{'s' * (load.models > 1)}"
        yield from four(f"gateway, name {_FORMS[load.form]}, {words}, {_IN_FLIGHT} in flight", load, seen)
    most = max(connections(gateway.pid, pod.http_port) for pod in pods)
    yield Row("gateway, all forms", "wrong or failed answers", seen.failed, "", "", at_most(0))
    yield Row("gateway, all forms", "connections to a pod's REST port", most, "", f"{_IN_FLIGHT} were in flight")
