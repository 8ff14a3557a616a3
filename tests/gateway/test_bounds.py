"""How many requests may be in flight to a pod, against a model server in virtual time that queues what it cannot do."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.gateway.bounds import LEAST, RequestBounds
from shoal.gateway.protocols import Counted, Quantity

POD = "pod-1"
WINDOW = 2.0
LATER = 30.0
"""Seconds after which bounds have settled."""


def counted(code: str, milliseconds: list[float], method: str = "ModelInfer") -> Counted:
    return Counted(
        Quantity.REQUEST_TIME, method=method, code=code, runtime="r", pod=POD, revision="", endpoint="",
        cumulative=(), count=len(milliseconds), total=sum(milliseconds),
    )  # fmt: skip


@dataclass
class Load:
    """Requests that come at random, that often on average, and give up after so many seconds."""

    rate: float
    patience: float
    begins: float = 0.0
    ends: float = float("inf")


class Pod:
    """Answers so many requests at a time, each in so many seconds, those that came first first."""

    def __init__(self, places: int, service: float) -> None:
        self.places, self.service = places, service
        self.bounds = RequestBounds()
        self.bounds.decide(0.0, WINDOW)
        self.limit: int | None = None
        self.limits: list[tuple[float, int | None]] = []
        self.refused: list[float] = []
        self.waits: list[tuple[float, float]] = []

    @property
    def capacity(self) -> float:
        return self.places / self.service

    def run(self, seconds: float, *loads: Load, seed: int = 0) -> None:
        chance = random.Random(seed)
        come = []
        for load in loads:
            at = load.begins
            while (at := at + chance.expovariate(load.rate)) < min(load.ends, seconds):
                come.append((at, load.patience))
        heapq.heapify(come)
        queue: deque[tuple[float, float]] = deque()
        busy: list[tuple[float, float, float]] = []
        ended: dict[str, list[float]] = {"OK": [], "DEADLINE_EXCEEDED": []}
        in_flight, window, now = 0, WINDOW, 0.0
        leaving: list[float] = []
        while come or busy or queue:
            now = min(come[0][0] if come else float("inf"), busy[0][0] if busy else float("inf"), window)
            while leaving and leaving[0] <= now:
                heapq.heappop(leaving)
            if now == window:
                self._report(ended, now)
                window += WINDOW
            elif busy and busy[0][0] == now:
                _, came, patience = heapq.heappop(busy)
                took = now - came
                if took <= patience:
                    ended["OK"].append(took * 1000)
                    self.waits.append((now, took))
            else:
                came, patience = heapq.heappop(come)
                if self.limit is not None and len(leaving) + in_flight >= self.limit:
                    self.refused.append(now)
                    continue
                queue.append((came, patience))
                in_flight += 1
            while queue and (len(busy) < self.places or queue[0][0] + queue[0][1] <= now):
                came, patience = queue.popleft()
                if came + patience <= now:
                    ended["DEADLINE_EXCEEDED"].append(patience * 1000)
                    in_flight -= 1
                    continue
                done = now + self.service
                heapq.heappush(busy, (done, came, patience))
                heapq.heappush(leaving, min(done, came + patience))
                if done > came + patience:
                    ended["DEADLINE_EXCEEDED"].append(patience * 1000)
                in_flight -= 1

    def _report(self, ended: dict[str, list[float]], now: float) -> None:
        self.bounds.counted(counted(code, times) for code, times in ended.items() if times)
        for times in ended.values():
            times.clear()
        decided = self.bounds.decide(now, WINDOW)
        assert decided is not None
        self.limit = decided.get(POD)
        self.limits.append((now, self.limit))

    def answered(self, since: float, until: float) -> float:
        return sum(since <= at < until for at, _ in self.waits) / (until - since)


places = st.sampled_from([1, 4, 16])
patience = st.sampled_from([2.0, 4.0])
seeds = st.integers(0, 1000)


@settings(max_examples=10, deadline=None)
@given(places, patience, st.sampled_from([0.1, 0.5, 0.8]), seeds)
def test_a_pod_that_is_not_full_has_no_bound(places: int, patience: float, load: float, seed: int) -> None:
    pod = Pod(places, service=places / 40)
    pod.run(40, Load(load * pod.capacity, patience), seed=seed)
    if patience > 2 * pod.service:
        assert not pod.refused
        assert {limit for _, limit in pod.limits} == {None}


@settings(max_examples=10, deadline=None)
@given(places, patience, st.sampled_from([1.5, 2.0, 4.0]), seeds)
def test_a_full_pod_goes_on_answering_and_the_rest_is_refused_at_once(
    places: int, patience: float, load: float, seed: int
) -> None:
    pod = Pod(places, service=places / 60)
    pod.run(60, Load(load * pod.capacity, patience), seed=seed)
    assert pod.answered(LATER, 60) > 0.9 * pod.capacity
    waits = sorted(took for at, took in pod.waits if at > LATER)
    assert waits[int(len(waits) * 0.99)] <= 0.75 * patience + pod.service + LEAST / pod.capacity
    assert sum(at > LATER for at in pod.refused) > 0.8 * (load - 1) * pod.capacity * (60 - LATER)


@settings(max_examples=6, deadline=None)
@given(places, seeds)
def test_a_bound_is_lifted_when_fewer_come(places: int, seed: int) -> None:
    pod = Pod(places, service=places / 60)
    pod.run(80, Load(2 * pod.capacity, 2.0, ends=30), Load(0.3 * pod.capacity, 2.0, begins=30), seed=seed)
    assert any(limit is not None for at, limit in pod.limits if at < 30)
    assert not [at for at in pod.refused if at > 34]
    assert {limit for at, limit in pod.limits if at > 50} == {None}


def test_a_pod_whose_models_take_long_and_do_not_queue_is_left_alone() -> None:
    """Half of the requests give up, because their model takes longer than they wait."""
    pod = Pod(10_000, service=1.0)
    pod.run(300, Load(100, 0.5), Load(100, 1.2), seed=1)
    assert len([at for at in pod.refused if at > 60]) < 0.05 * 200 * 240
    assert pod.limit is None


def test_who_goes_away_soon_or_ends_a_stream_did_not_give_up() -> None:
    bounds = RequestBounds()
    bounds.decide(0.0, WINDOW)
    bounds.counted([
        counted("CANCELLED", [50.0] * 500),
        counted("CANCELLED", [5000.0] * 500, "ModelStreamInfer"),
        counted("OK", [40.0] * 500),
    ])  # fmt: skip
    assert bounds.decide(WINDOW, WINDOW) == {}


def test_what_clients_no_longer_wait_for_bounds_a_pod() -> None:
    bounds = RequestBounds()
    bounds.decide(0.0, WINDOW)
    bounds.counted([counted("CANCELLED", [4000.0] * 200), counted("OK", [2000.0] * 100)])
    assert bounds.decide(WINDOW, WINDOW) == {POD: 100}
    assert bounds.decide(WINDOW + 0.5, WINDOW) is None


def test_what_gateways_refused_themselves_says_nothing_of_the_pod() -> None:
    bounds = RequestBounds()
    bounds.decide(0.0, WINDOW)
    bounds.counted([counted("CANCELLED", [4000.0] * 200), counted("OK", [2000.0] * 100)])
    assert bounds.decide(2.0, WINDOW) == {POD: 100}
    one = counted("RESOURCE_EXHAUSTED", [0.1] * 10_000)
    overflown = Counted(**{field: getattr(one, field) for field in one.__slots__} | {"overflown": True})
    bounds.counted([overflown, counted("OK", [1000.0] * 200)])
    assert bounds.decide(4.0, WINDOW) == {POD: 200}
