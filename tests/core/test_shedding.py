"""Requests that would wait in vain are refused when they come, and only those."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.core.actions import Forward, RejectCode
from shoal.core.pace import Pace
from shoal.core.settings import CoreSettings
from shoal.core.shedding import RETRY_LEAST, RETRY_MOST, too_late
from shoal.core.types import CopyState, PodId, RevisionId, Ticket
from support.core import World, by_revision, model, rejection, world_with

P1 = PodId("p1")
NAMES = ("a", "b", "c", "d", "e")


def _world(load_seconds: float | None = 2.0, settings: CoreSettings | None = None) -> World:
    """One pod with a loader that took so long for the one load it did."""
    world = world_with("p1", settings=settings)
    for name in ("first", *NAMES):
        world.declare(model(name, 10))
    if load_seconds is not None:
        world.request(by_revision("first"))
        world.now += load_seconds
        world.loaded(P1, RevisionId("first"))
    return world


def test_a_request_whose_turn_would_come_too_late_is_refused_at_once() -> None:
    world = _world(load_seconds=2.0)
    for name in ("a", "b", "c"):
        world.request(by_revision(name))  # 2, 4 and 6 s
    world.request(by_revision("d"), patience=7.0)  # 8 s
    refused = rejection(world, 5)
    assert refused.code is RejectCode.RESOURCE_EXHAUSTED
    assert refused.message == (
        "d would be loaded in about 8.0 s, as 2 other loads go first, but the request waits 7.0 s at most; "
        "try again in 1 s, or add pods"
    )
    assert refused.retry_after == pytest.approx(1.0)
    assert sorted(world.tickets) == [2, 3, 4], "the others wait on"
    view = world.core.model(RevisionId("d"))
    assert view is not None
    assert not view.copies, "nothing is loaded for whoever was refused"
    world.settle()
    assert all(isinstance(world.answers[Ticket(ticket)], Forward) for ticket in (2, 3, 4))


def test_a_request_that_can_wait_long_enough_is_not_refused() -> None:
    world = _world(load_seconds=2.0)
    for name in ("a", "b", "c"):
        world.request(by_revision(name))
    world.request(by_revision("d"), patience=8.5)
    assert 5 in world.tickets


def test_what_a_load_under_way_has_done_already_is_not_waited_for_again() -> None:
    world = _world(load_seconds=2.0)
    for name in ("a", "b"):
        world.request(by_revision(name))
    world.pass_time(1.5)
    world.request(by_revision("c"), patience=5.0)  # 0.5 s of a, then b, then its own
    assert 4 in world.tickets


def test_nobody_is_refused_before_it_is_known_how_long_loads_take() -> None:
    world = _world(load_seconds=None)
    for name in NAMES:
        world.request(by_revision(name), patience=0.001)
    assert not world.answers


def test_a_pod_that_was_slow_once_is_put_to_the_test_again() -> None:
    world = _world(load_seconds=100.0)
    world.request(by_revision("a"))
    world.request(by_revision("b"), patience=1.0)
    assert {2, 3} <= set(world.tickets), "nothing is queued before it"
    world.request(by_revision("c"), patience=1.0)
    assert rejection(world, 4).retry_after == RETRY_MOST
    world.loaded(P1, RevisionId("a"))
    world.request(by_revision("d"), patience=1.0)
    assert 5 in world.tickets


def test_a_request_that_joins_a_load_under_way_is_not_refused() -> None:
    world = _world(load_seconds=10.0)
    world.request(by_revision("a"))
    world.request(by_revision("a"), patience=0.1)
    assert 3 in world.tickets


def test_what_others_wait_for_stays_queued_when_one_is_refused() -> None:
    world = _world(load_seconds=2.0)
    world.request(by_revision("a"))
    world.request(by_revision("b"))
    world.pass_time(1.0)
    world.request(by_revision("c"))
    world.request(by_revision("c"), patience=0.5)
    assert rejection(world, 5).code is RejectCode.RESOURCE_EXHAUSTED
    view = world.core.model(RevisionId("c"))
    assert view is not None
    assert [copy.state for copy in view.copies] == [CopyState.QUEUED]


def test_a_declared_copy_stays_queued_when_whoever_asks_for_it_is_refused() -> None:
    world = _world(load_seconds=2.0)
    for name in ("a", "b", "c"):
        world.request(by_revision(name))
    world.declare(model("kept", 10, least=1))
    world.request(by_revision("kept"), patience=0.5)
    assert rejection(world, 5).code is RejectCode.RESOURCE_EXHAUSTED
    world.settle()
    assert RevisionId("kept") in world.servers[P1].loaded


@pytest.mark.parametrize(
    ("settings", "name"), [(CoreSettings(max_waiting=1), "b"), (CoreSettings(max_waiting_per_revision=1), "a")]
)
def test_a_full_waiting_room_says_when_to_come_back(settings: CoreSettings, name: str) -> None:
    world = _world(settings=settings)
    world.request(by_revision("a"))
    world.request(by_revision(name))
    assert rejection(world, 3).retry_after == RETRY_LEAST


seconds = st.floats(0.0, 1000.0)


@given(wait=seconds, patience=seconds)
def test_nobody_is_refused_when_nothing_is_queued(wait: float, patience: float) -> None:
    assert not too_late(wait, 0, patience)


@given(
    times=st.lists(st.floats(0.01, 50.0), min_size=1, max_size=20),
    running=st.lists(st.floats(0.0, 50.0), max_size=4),
    lanes=st.integers(1, 4),
    ahead=st.integers(1, 50),
    further=st.integers(0, 50),
    patience=seconds,
    less=st.floats(0.0, 1.0),
)
def test_whoever_comes_behind_one_that_was_refused_and_waits_no_longer_is_refused_too(
    times: list[float],
    running: list[float],
    lanes: int,
    ahead: int,
    further: int,
    patience: float,
    less: float,
) -> None:
    pace, now = Pace(), 0.0
    for took in times:
        pace.started(RevisionId("x"), now, now)
        now += took
        pace.ended(RevisionId("x"), now, learn=True)
    for number, since in enumerate(running[:lanes]):
        pace.started(RevisionId(str(number)), now, now)
        now += since / 4
    assert min(times) * 0.999 <= pace.seconds <= max(times) * 1.001
    wait, longer = pace.wait(ahead, lanes, now), pace.wait(ahead + further, lanes, now)
    assert wait <= longer
    assert wait >= pace.seconds
    if too_late(wait, ahead, patience):
        assert too_late(longer, ahead + further, patience * less)


def test_waiting_behind_others_is_not_counted_as_loading() -> None:
    pace = Pace()
    for number in range(10):  # all queued at 0, one lane, a second each
        pace.started(RevisionId(str(number)), 0.0, float(number))
        pace.ended(RevisionId(str(number)), number + 1.0, learn=True)
    assert pace.seconds == pytest.approx(1.0)


def test_waiting_for_space_is_counted() -> None:
    pace = Pace()
    pace.started(RevisionId("a"), queued=0.0, now=3.0)
    pace.ended(RevisionId("a"), 4.0, learn=True)
    assert pace.seconds == pytest.approx(4.0)


def test_a_load_that_was_given_up_teaches_nothing() -> None:
    pace = Pace()
    pace.started(RevisionId("a"), 0.0, 0.0)
    pace.ended(RevisionId("a"), 40.0, learn=False)
    assert pace.seconds == 0
