"""What a miss costs where every load needs room: a mesh whose pods hold half of the models that are asked for."""

from __future__ import annotations

import random
import statistics
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.load import LOAD, MODELS, Load, Seen, send
from bench.mesh import Mesh, Pods, mesh
from bench.rows import Row, at_most, measures, of_turns

_MODELS = 1_000
_PODS = 2
_ROOM = _MODELS // 2 // _PODS
_LOAD, _UNLOAD = 0.050, 0.005
_OWN_MS = (_LOAD + _UNLOAD) * 1000
_ADDED_MS = at_most(15)
_TURNS = 3
_ALONE, _ZIPF = "one request at a time", "16 in flight, by Zipf"
_FILLS = Load(requests=_PODS * _ROOM + 64, models=_PODS * _ROOM + 64, in_flight=16, connections=4, spread="each")
"""Fills the pods, and a little more."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What was seen, and what the mesh's process took for each of the loads it had done meanwhile."""

    seen: Seen
    loads: int
    cpu_seconds: float

    @property
    def milliseconds_a_load(self) -> float:
        """Processor time of the mesh, hits between the loads included."""
        return self.cpu_seconds / max(1, self.loads) * 1000

    @property
    def hits(self) -> float:
        """Percent that the gateway answered without the mesh."""
        return 100 * self.seen.hot["count"] / max(1, self.seen.answered)


@measures("misses", MODELS, LOAD)
async def measure(quick: bool) -> list[Row]:
    """Rows of servers that guard their requests, as Shoal's own, and of those that do not."""
    share = 4 if quick else 1
    queued = Load(requests=2_000 // share, models=_MODELS, in_flight=16, connections=4)
    loads = {
        _ALONE: Load(requests=200 // share, models=_MODELS),
        "16 in flight": queued,
        _ZIPF: replace(queued, requests=4_000 // share, spread="zipf"),
    }
    rows = await _rows("misses", loads, guarded=True)
    unguarded = {"16 in flight": replace(queued, requests=200 // share)}
    return rows + await _rows("misses, servers without Shoal's adapter", unguarded, guarded=False)


async def _rows(name: str, loads: dict[str, Load], *, guarded: bool) -> list[Row]:
    pods = Pods(count=_PODS, room=_ROOM, load=_LOAD, unload=_UNLOAD, guarded=guarded)
    with tempfile.TemporaryDirectory(prefix="bench-misses-") as folder:
        async with mesh(Path(folder), pods, _MODELS) as running:
            await send(_FILLS, running.port)
            seen: dict[str, list[_Turn]] = {words: [] for words in loads}
            for turn in range(_TURNS):
                for words, load in loads.items():
                    seen[words].append(await _turn(running, load, turn))
    rows = [row for words, turns in seen.items() for row in _of(f"{name}, {words}", turns, must=guarded)]
    if _ZIPF in seen:
        hits = [turn.hits for turn in seen[_ZIPF]]
        beside = f"{_lru_hits(loads):.0f} % were plain LRU, {_ROOM * _PODS} of {_MODELS:,} models fit"
        rows.append(of_turns(f"{name}, {_ZIPF}", "hits", hits, "%", beside))
    everything = [turn.seen for turns in seen.values() for turn in turns]
    failed, sent = sum(seen.failed for seen in everything), sum(seen.sent for seen in everything)
    return [*rows, Row(name, "failed requests", failed, "", f"of {sent:,}", at_most(0))]


async def _turn(mesh: Mesh, load: Load, turn: int) -> _Turn:
    before = await mesh.loads()
    seen = await send(replace(load, seed=turn + 1), mesh.port, mesh.pid)
    return _Turn(seen, await mesh.loads() - before, seen.cpu[0] * max(1, seen.answered) / 1e6)


def _of(group: str, turns: list[_Turn], *, must: bool) -> Iterator[Row]:
    alone = group.endswith(_ALONE)
    misses = sum(int(turn.seen.cold["count"]) for turn in turns)
    own = f"{_OWN_MS:.0f} ms of the server's unload and load; {misses:,} misses"
    for share, limit in (("p50", _ADDED_MS if must and alone else None), ("p99", None)):
        added = [turn.seen.cold[share] - _OWN_MS for turn in turns]
        yield of_turns(group, f"a miss over the server's own time, {share}", added, "ms", own, limit)
    rate = statistics.median(turn.loads / turn.seen.seconds for turn in turns)
    cpu = [turn.milliseconds_a_load for turn in turns]
    yield of_turns(group, "CPU of the mesh a load", cpu, "ms", f"{rate:.0f} loads/s")


def _lru_hits(loads: dict[str, Load]) -> float:
    """Percent that a cache of the same size hits which drops the least recently used, in turns of the same loads."""
    source = random.Random(1)
    cache: OrderedDict[int, None] = OrderedDict()

    def hits(asked: Iterable[int]) -> float:
        found = []
        for number in asked:
            found.append(number in cache)
            cache[number] = None
            cache.move_to_end(number)
            if len(cache) > _PODS * _ROOM:
                cache.popitem(last=False)
        return 100 * statistics.mean(found)

    hits(range(_FILLS.requests))
    turns = [{words: hits(_asked(load, source)) for words, load in loads.items()} for _ in range(_TURNS)]
    return statistics.median(turn[_ZIPF] for turn in turns)


def _asked(load: Load, source: random.Random) -> list[int]:
    weights = [1 / rank if load.spread == "zipf" else 1 for rank in range(1, load.models + 1)]
    return source.choices(range(load.models), weights, k=load.requests)
