"""A model class with every fault that hurts its server, and looking at what the adapter tells of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from shoal_protos.adapter import adapter_pb2
from shoal_runtime import underway
from shoal_runtime.underway import Activity
from support.runtime import Pod, model_key
from waiting import until

CUSTOM = model_key("custom")
BLANK = [[0.0] * 64]
State = adapter_pb2.State
LOADING, ANSWERING = State.LOADING, State.ANSWERING

FAULTY_RUNTIME = '''
import asyncio
import ctypes
import os
import time

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

FAULTS = {
    "exit": lambda: os._exit(1),
    "segfault": lambda: ctypes.string_at(0),
    "block": lambda: time.sleep(600),
    "raise": lambda: int("broken on purpose"),
    "fine": lambda: None,
}


class Faulty(MLModel):
    """`extra` names a fault for each of load, predict and unload; `nth` is the request that has it."""

    load_off_loop = os.path.exists(os.path.join(os.path.dirname(__file__), "off-loop"))

    def _do(self, what):
        FAULTS[(self.settings.parameters.extra or {}).get(what, "fine")]()

    async def load(self):
        self._asked = 0
        self._do("load")
        if "until" in (self.settings.parameters.extra or {}):
            while not os.path.exists(self.settings.parameters.extra["until"]):
                await asyncio.sleep(0.02)
        return True

    async def predict(self, payload):
        self._asked += 1
        extra = self.settings.parameters.extra or {}
        if self._asked >= extra.get("nth", 1):
            self._do("predict")
        await asyncio.sleep(extra.get("seconds", 0))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("o", np.ones(1))])

    async def unload(self):
        self._do("unload")
        await asyncio.sleep((self.settings.parameters.extra or {}).get("unload_seconds", 0))
        return True
'''


def faulty_model(folder: Path, *, off_loop: bool = False, **extra: Any) -> None:
    """Writes a model folder of the class above."""
    folder.mkdir(parents=True)
    (folder / "faulty.py").write_text(FAULTY_RUNTIME)
    if off_loop:
        (folder / "off-loop").touch()
    settings = {"implementation": "faulty.Faulty", "parameters": {"extra": extra}}
    (folder / "model-settings.json").write_text(json.dumps(settings))


@contextlib.asynccontextmanager
async def watching(pod: Pod) -> AsyncIterator[list[Any]]:
    """Every state the adapter tells, the first one being there already."""
    seen: list[Any] = []

    async def watch() -> None:
        async for state in pod.watch.watchState(adapter_pb2.WatchStateRequest(), wait_for_ready=True):
            seen.append(state)  # noqa: PERF401 -- others look at the list meanwhile

    task = asyncio.create_task(watch())

    async def begun() -> bool:
        return bool(seen)

    await until(begun)
    yield seen
    task.cancel()


async def first_loss(seen: list[Any]) -> Any:
    """The first state in which the server is gone."""

    async def lost() -> Any:
        return next((state for state in seen if state.status == State.STARTING), None)

    return await until(lost, seconds=15)


def suspects(incident: Any) -> set[tuple[str, int, int]]:
    return {(suspect.model_id, suspect.doing, suspect.requests) for suspect in incident.suspects}


async def failure(call: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Status, message and trailing metadata of a call that fails."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or "", {key: str(value) for key, value in error.trailing_metadata()}
    raise AssertionError(f"answered {answer!r}")


async def busy_with(pod: Pod, model_id: str, doing: Activity, count: int = 1) -> None:
    """Waits until the server notes that it is busy with this."""

    async def noted() -> bool:
        notes = underway.files(pod.root / underway.FOLDER)
        return bool(notes) and underway.read(notes[-1]).of(doing).get(model_id) == count

    await until(noted, seconds=15)
