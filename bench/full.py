"""What becomes of requests when more come than the machine can answer: the embedded cluster under an open load."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.cluster import START_SECONDS, Cluster, cluster
from bench.load import LOAD, Load, Seen, model, send
from bench.rows import Row, at_least, at_most, measures, of_turns
from bench.turns import ratios, spelled

_MODELS = 40
_POD_MEMORY = "160Mi"
"""Two pods of it hold well below half of the models, so that requests need loads all the time."""
_FILE, _TREES = "forest.joblib", 30
"""4 MB, of which a pod holds about seven."""
_TIMES = (0.5, 1.0, 1.5, 2.0)
_DEADLINE = 2.0
_LEAD_SECONDS = 5.0
"""How long a load beyond capacity goes on before it is looked at: it is there to stay."""
_REST_SECONDS = 2.0
"""After each load, until what it left is done."""
_KEPT = at_least(80)
_BOUNDED = at_most(75)
_REFUSED = "8"
"""RESOURCE_EXHAUSTED."""
_ASKED = Load(
    requests=1_000_000, models=_MODELS, in_flight=64, connections=4, spread="zipf", answered="__isvc-*"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Turn:
    """What became of one load, in so many seconds, and how many loads of models were done meanwhile."""

    offered: float
    seconds: float
    seen: Seen
    loads: int

    @property
    def goodput(self) -> float:
        """Right answers within the deadline, a second."""
        return self.seen.in_time / self.seconds

    def share(self, *statuses: str) -> float:
        """Percent of the requests that ended so."""
        return 100 * sum(self.seen.statuses.get(status, 0) for status in statuses) / max(1, self.seen.sent)


@measures("full", LOAD)
async def measure(quick: bool) -> list[Row]:
    """Capacity is measured first, in a closed loop; then so many times that is offered."""
    seconds, turns = (3.0, 3) if quick else (6.0, 3)
    with tempfile.TemporaryDirectory(prefix="bench-full-") as name:
        folder = Path(name)
        artifacts = folder / "artifacts"
        artifacts.mkdir()
        await asyncio.to_thread(_train, artifacts / _FILE)
        models = {model(number): _FILE for number in range(_MODELS)}
        options = ("--pods-per-runtime", "2", "--pod-memory", _POD_MEMORY)
        async with cluster(folder, artifacts, models, *options) as up:
            await _all_answer(up)
            await _closed(up, seconds)  # code that has not run before takes longer
            capacity = [(await _closed(up, seconds)).goodput for _ in range(turns)]
            middle = statistics.median(capacity)
            seen: dict[float, list[_Turn]] = {times: [] for times in _TIMES}
            for turn in range(turns):
                for times, found in seen.items():
                    found.append(await _open(up, times, middle, seconds, turn))
    return list(_rows(capacity, seen))


def _train(path: Path) -> None:
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.ensemble import ExtraTreesClassifier

    digits = load_digits()
    joblib.dump(ExtraTreesClassifier(_TREES, random_state=0).fit(digits.data, digits.target), path)


async def _all_answer(up: Cluster) -> None:
    """Until each model has answered once."""
    each = replace(_ASKED, requests=_MODELS, in_flight=2, connections=1, spread="each")
    async with asyncio.timeout(START_SECONDS):
        while (await send(each, up.port)).failed:  # noqa: ASYNC110
            await asyncio.sleep(0.5)


async def _closed(up: Cluster, seconds: float) -> _Turn:
    return await _measure(up, replace(_ASKED, limit=seconds), 0, seconds)


async def _open(up: Cluster, times: float, capacity: float, seconds: float, turn: int) -> _Turn:
    rate = times * capacity
    if times > 1:
        await send(_offered(rate, _LEAD_SECONDS, turn), up.port)
    return await _measure(up, _offered(rate, seconds, turn), rate, seconds)


def _offered(rate: float, seconds: float, turn: int) -> Load:
    return replace(
        _ASKED, rate=rate, requests=max(1, int(rate * seconds)), deadline=_DEADLINE, limit=seconds + 2 * _DEADLINE,
        seed=turn + 1,
    )  # fmt: skip


async def _measure(up: Cluster, load: Load, rate: float, seconds: float) -> _Turn:
    before = await _loads(up)
    seen = await send(load, up.port)
    loads = await _loads(up) - before
    await asyncio.sleep(_REST_SECONDS)
    return _Turn(rate, seconds, seen, loads)


async def _loads(up: Cluster) -> int:
    return int((await up.admin.get("/top")).json()["loads"])


def _rows(capacity: list[float], seen: dict[float, list[_Turn]]) -> Iterator[Row]:
    yield of_turns("full", "capacity", capacity, "/s", f"right answers in a closed loop, {_ASKED.in_flight} in flight")
    goodput = {times: [turn.goodput for turn in turns] for times, turns in seen.items()}
    for times, turns in seen.items():
        group = f"full, {times:g} times capacity"
        beside = f"{statistics.median(turn.offered for turn in turns):,.0f} offered; within {_DEADLINE:g} s"
        yield of_turns(group, "right answers a second", goodput[times], "/s", beside)
        for share in ("p50", "p99"):
            took = [turn.seen.hot[share] for turn in turns]
            cold = [turn.seen.cold[share] for turn in turns]
            yield of_turns(group, f"hot request, {share}", took, "ms", f"cold ones {spelled(cold)} ms")
        failed = statistics.median(100 - turn.share("0", _REFUSED) for turn in turns)
        refused = [turn.share(_REFUSED) for turn in turns]
        yield of_turns(group, "refused as RESOURCE_EXHAUSTED", refused, "%", f"{failed:.1f} % failed otherwise")
        yield of_turns(group, "loads of models a second", [turn.loads / turn.seconds for turn in turns], "/s")
    kept = [100 * ratio for ratio in ratios(goodput[2.0], goodput[1.0])]
    yield of_turns("full", "right answers at twice capacity, of those at capacity", kept, "%", "", _KEPT)
    waited = [turn.seen.hot["p99"] / _DEADLINE / 10 for turn in seen[2.0]]
    yield of_turns("full", "hot request at twice capacity, p99, of its deadline", waited, "%", "", _BOUNDED)
