"""For how many queued loads space is made at a time: it depends on how long copies take to leave."""

from __future__ import annotations

import pytest

from shoal.core.pace import Turnover
from shoal.core.types import PodId, RevisionId
from support.core import World, by_revision, model, pod

P1 = PodId("p1")
ROOM = 10


def full_pod(leaving: float) -> World:
    """One pod that loads one model at a time, within a second, and is full; copies take so many seconds to leave."""
    world = World()
    world.join(pod("p1", capacity=10 * ROOM, concurrency=1))
    world.pass_time(20)
    for number in range(2 * ROOM):
        world.declare(model(f"m{number:02}", 10))
    for number in range(ROOM + 1):
        world.request(by_revision(f"m{number:02}"))
        if number == ROOM:
            leave(world, leaving)
        world.pass_time(1)
        world.loaded(P1, RevisionId(f"m{number:02}"))
        world.acknowledge()
    leave(world, leaving)
    return world


def leave(world: World, seconds: float) -> None:
    """Everything on its way out leaves after so long."""
    world.acknowledge()
    world.pass_time(seconds)
    server = world.servers[P1]
    for revision in list(server.draining):
        world.drained(P1, revision)
    for revision in list(server.unloading):
        world.unloaded(P1, revision)


def on_their_way(world: World) -> int:
    """How many copies leave when five more models are asked for."""
    for number in range(ROOM + 1, ROOM + 6):
        world.request(by_revision(f"m{number:02}"))
    world.acknowledge()
    return len(world.servers[P1].draining)


def test_where_copies_leave_quickly_space_is_made_for_the_next_load() -> None:
    assert on_their_way(full_pod(leaving=0.1)) <= 2


def test_where_copies_leave_slowly_space_is_made_for_all_that_are_loaded_meanwhile() -> None:
    assert on_their_way(full_pod(leaving=4)) >= 4


@pytest.mark.parametrize(
    ("coming", "going", "copies", "expected"),
    [
        (0.0, 0.0, 100, 4),  # nothing is known
        (0.125, 0.01, 100, 4),
        (0.125, 0.125, 100, 8),
        (0.125, 1.25, 100, 44),
        (0.125, 1.0, 20, 10),  # half of the copies
        (0.125, 1.0, 2, 4),
        (0.125, 100.0, 1000, 64),
        (1e-9, 1.0, 1000, 64),
    ],
)
def test_how_far_ahead_space_is_made(coming: float, going: float, copies: int, expected: int) -> None:
    turnover = Turnover()
    if coming:
        turnover.coming.add(coming)
    if going:
        turnover.withdrawn(RevisionId("a"), 10.0)
        turnover.left(RevisionId("a"), 10.0 + going, learn=True)
    assert turnover.ahead(4, copies) == expected


def test_a_copy_that_is_called_back_says_nothing_of_how_long_copies_take_to_leave() -> None:
    turnover = Turnover()
    turnover.withdrawn(RevisionId("a"), 0.0)
    turnover.left(RevisionId("a"), 50.0, learn=False)
    turnover.left(RevisionId("a"), 60.0, learn=True)
    assert turnover.going.seconds == 0
