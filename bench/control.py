"""What a load costs the control plane: processor time of its processes while models come and go."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from bench.cluster import START_SECONDS, Cluster, cluster, train
from bench.load import LOAD, Load, model, send
from bench.processes import cpu_seconds
from bench.rows import Row, at_most, measures, of_turns
from bench.turns import spelled

_MODELS = 60
_POD_MEMORY = "160Mi"
_RATE = 12.0
"""Requests a second, of which most need a load: what one processor of a small machine can do."""
_PARTS = ("mesh", "apiserver")
"""The mesh's process has the controller in it."""
_LIMIT_MS = at_most(13)
_SETTLE_SECONDS = 3.0
_ASKED = Load(
    requests=1_000_000, models=_MODELS, in_flight=2, connections=2, spread="each", answered="__isvc-*"
)  # fmt: skip


@measures("control", LOAD)
async def rows(quick: bool) -> list[Row]:
    """The embedded cluster with one pod, into which a part of the models fits: asked for in turn, each needs a load."""
    seconds, turns = (12.0, 3) if quick else (20.0, 3)
    with tempfile.TemporaryDirectory(prefix="bench-control-") as name:
        folder = Path(name)
        artifacts = folder / "artifacts"
        artifacts.mkdir()
        file = (await asyncio.to_thread(train, artifacts))[1]
        models = {model(number): file for number in range(_MODELS)}
        async with cluster(folder, artifacts, models, "--pods-per-runtime", "1", "--pod-memory", _POD_MEMORY) as up:
            await _all_answer(up)
            seen = [await _turn(up, seconds) for _ in range(turns)]
    totals = [sum(turn) for turn in seen]
    parts = "; ".join(f"{part} {spelled(took)}" for part, took in zip(_PARTS, zip(*seen, strict=True), strict=True))
    return [of_turns("control", "CPU of the control processes a load cycle", totals, "ms", parts, _LIMIT_MS)]


async def _all_answer(up: Cluster) -> None:
    """Until each model has answered once."""
    async with asyncio.timeout(START_SECONDS):
        while (await send(replace(_ASKED, requests=_MODELS), up.port)).failed:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    await asyncio.sleep(_SETTLE_SECONDS)


async def _turn(up: Cluster, seconds: float) -> list[float]:
    """Milliseconds of each process a load, with what it does for the load after the answer."""
    parts = json.loads((up.state / "status.json").read_text())["parts"]
    pids = [parts[name]["pid"] for name in _PARTS]
    before, loads = [cpu_seconds(pid) for pid in pids], await _loads(up)
    await send(replace(_ASKED, requests=int(_RATE * seconds), rate=_RATE, limit=seconds * 3), up.port)
    await asyncio.sleep(_SETTLE_SECONDS)
    done = max(1, await _loads(up) - loads)
    return [(cpu_seconds(pid) - was) / done * 1000 for pid, was in zip(pids, before, strict=True)]


async def _loads(up: Cluster) -> int:
    return int((await up.admin.get("/top")).json()["loads"])
