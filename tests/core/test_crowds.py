"""The order in which loads are done that requests wait for: by how long they wait and by how many do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shoal.core.copies import CROWD_CREDIT, MOST_CROWD
from shoal.core.types import PodId, RevisionId, Ticket
from support.core import World, by_revision, model, world_with

P1 = PodId("p1")


def _busy() -> World:
    """One pod with a load under way."""
    world = world_with("p1")
    for name in ("busy", "a", "b", "c"):
        world.declare(model(name, 10))
    world.request(by_revision("busy"))
    return world


def _next(world: World) -> str:
    (loading,) = world.servers[P1].loading
    world.loaded(P1, loading)
    (following,) = world.servers[P1].loading
    return following


def test_of_two_loads_asked_for_at_the_same_time_the_one_more_requests_wait_for_goes_first() -> None:
    world = _busy()
    world.request(by_revision("a"))
    for _ in range(3):
        world.request(by_revision("b"))
    assert _next(world) == "b"
    assert _next(world) == "a"


def test_who_waits_much_longer_goes_before_any_crowd() -> None:
    world = _busy()
    world.request(by_revision("a"))
    world.pass_time(CROWD_CREDIT * MOST_CROWD)
    for _ in range(10 * MOST_CROWD):
        world.request(by_revision("b"))
    assert _next(world) == "a"


def test_requests_that_gave_up_do_not_move_a_load_forward() -> None:
    world = _busy()
    first = world.next_ticket
    for _ in range(5):
        world.request(by_revision("a"))
    world.pass_time(0.05)
    for _ in range(2):
        world.request(by_revision("b"))
    for ticket in range(first, first + 4):
        world.abandon(Ticket(ticket))
    assert _next(world) == "b"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 0.5)), min_size=1, max_size=60))
def test_no_load_waits_for_one_that_was_asked_for_much_later(arrivals: list[tuple[str, float]]) -> None:
    world = _busy()
    asked: dict[str, float] = {}
    for name, pause in arrivals:
        world.pass_time(pause)
        world.request(by_revision(name))
        asked.setdefault(name, world.now)
    order = [_next(world) for _ in asked]
    assert set(order) == set(asked)
    for place, name in enumerate(order):
        assert all(asked[name] < asked[later] + CROWD_CREDIT * MOST_CROWD for later in order[place + 1 :])
    world.loaded(P1, RevisionId(order[-1]))
    assert not world.tickets
