"""What the core is told of requests."""

from dataclasses import replace

import pytest

from shoal.core.rollout.measure import latency_bucket, score_bucket
from shoal.core.rollout.plan import Plan
from shoal.core.rollout.record import Phase, Rollout
from shoal.core.types import RouteKey
from shoal.gateway.protocols import RequestSeen
from shoal.mesh.checks.observer import ENOUGH, Observer

KEY = RouteKey("digits")
ROLLOUT = Rollout("r1", "digits", "old", "new", Plan(), 0.0, phase=Phase.PROGRESSING)


class World:
    def __init__(self):
        self.events = []
        self.rollouts = {"digits": ROLLOUT}
        self.observer = Observer(self.events.append, self.rollouts.get)

    def told(self):
        self.observer.flush()
        events, self.events[:] = list(self.events), []
        return {(event.endpoint, seen.revision): seen for event in events for seen in event.observations}


@pytest.fixture
def world():
    return World()


def seen(revision, milliseconds=1.0, *, error=False, key=KEY):
    return RequestSeen(key, revision, milliseconds, error)


def test_requests_are_summed_by_revision(world):
    world.observer.observed((seen("old", 1.0), seen("new", 5.0, error=True), seen("old", 1.0)))
    world.observer.forwarded(KEY, "old", 30.0, error=False)
    told = world.told()
    assert set(told) == {("digits", "old"), ("digits", "new")}
    old, new = told["digits", "old"], told["digits", "new"]
    assert (old.requests, old.errors, dict(old.latencies)) == (
        3,
        0,
        {latency_bucket(1.0): 2, latency_bucket(30.0): 1},
    )
    assert (new.requests, new.errors, dict(new.latencies)) == (1, 1, {latency_bucket(5.0): 1})
    assert world.told() == {}


def test_only_the_revisions_of_a_rollout_count(world):
    world.rollouts["ended"] = replace(ROLLOUT, phase=Phase.ROLLED_BACK)
    world.observer.observed(
        (
            seen("older"),
            seen("new", key=RouteKey("new", is_revision=True)),
            seen("old", key=RouteKey("other")),
            seen("old", key=RouteKey("ended")),
        )
    )
    world.observer.forwarded(RouteKey("digits", is_revision=True), "old", 1.0, error=False)
    assert world.told() == {}


def test_requests_sent_to_the_canary_on_purpose_count(world):
    world.observer.observed((seen("new", key=RouteKey("digits", canary=True)),))
    assert world.told()["digits", "new"].requests == 1


def test_many_requests_are_reported_at_once(world):
    world.observer.observed((seen("new"),) * (ENOUGH - 1))
    assert world.events == []
    world.observer.forwarded(KEY, "old", 1.0, error=False)
    assert len(world.events) == 1
    assert {(seen.revision, seen.requests) for seen in world.events[0].observations} == {
        ("new", ENOUGH - 1),
        ("old", 1),
    }
    world.observer.observed((seen("new"),) * 1000)
    assert len(world.events) == 2


def test_comparisons_are_counted_with_the_numbers_of_both(world):
    compared = world.observer.compared
    compared("digits", ROLLOUT, agree=True, active_scores=(1.0, 1.0), target_scores=(1.0,))
    compared("digits", ROLLOUT, agree=False, active_scores=(-1.0,), target_scores=())
    told = world.told()
    old, new = told["digits", "old"], told["digits", "new"]
    assert (new.compared, new.disagreed, dict(new.scores)) == (2, 1, {score_bucket(1.0): 1})
    assert (old.compared, old.disagreed, old.requests) == (0, 0, 0)
    assert dict(old.scores) == {score_bucket(1.0): 2, score_bucket(-1.0): 1}


def test_what_was_seen_of_a_rollout_is_dropped_with_it(world):
    world.observer.forwarded(KEY, "new", 1.0, error=False)
    later = replace(ROLLOUT, id="r2", target="newer")
    world.rollouts["digits"] = later
    world.observer.compared("digits", ROLLOUT, agree=False, active_scores=(), target_scores=())
    assert world.told() == {}
    world.observer.forwarded(KEY, "new", 1.0, error=False)
    world.observer.forwarded(KEY, "newer", 1.0, error=False)
    del world.rollouts["digits"]
    assert world.told() == {}


@pytest.mark.parametrize(
    "later",
    [replace(ROLLOUT, id="r2", active="new", target="newer"), replace(ROLLOUT, started=9.0)],
    ids=["the next one", "a retried one"],
)
def test_a_rollout_begins_with_nothing_seen_of_the_one_before(world, later):
    world.observer.forwarded(KEY, "new", 1.0, error=True)
    world.observer.compared("digits", ROLLOUT, agree=False, active_scores=(), target_scores=())
    world.rollouts["digits"] = later
    world.observer.compared("digits", ROLLOUT, agree=False, active_scores=(), target_scores=())
    world.observer.forwarded(KEY, "new", 1.0, error=False)
    (seen_now,) = world.told().values()
    assert (seen_now.requests, seen_now.errors, seen_now.compared) == (1, 0, 0)
    world.observer.forwarded(KEY, "new", 1.0, error=False)
    world.rollouts["digits"] = replace(later, id="r3")
    assert world.told() == {}
