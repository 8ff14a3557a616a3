"""Random schedules of everything that can happen, in any order: the promises hold after every step, and in the end all
requests are answered."""

from __future__ import annotations

import math
import os
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shoal.core import events as ev
from shoal.core.rollout.commands import refusal
from shoal.core.rollout.measure import Observation, latency_bucket
from shoal.core.rollout.plan import (
    Analyse,
    Check,
    Metric,
    Otherwise,
    Pause,
    Plan,
    SetShadow,
    SetWeight,
    Strategy,
    WarmUp,
)
from shoal.core.rollout.record import PAUSED, Verb
from shoal.core.settings import CoreSettings
from shoal.core.suspicion import Cause, Doing, Suspect
from shoal.core.types import (
    CopyState,
    EndpointName,
    FailureReason,
    ModelState,
    PodId,
    RevisionId,
    RouteKey,
    Transition,
    Unplaceable,
)
from speed import times
from support.core import World, by_endpoint, by_revision, model, pod

ENDPOINTS = ["a", "b", "c", "d"]
PODS = ["p1", "p2", "p3", "q1"]
RUNTIME_OF = {"p1": "r", "p2": "r", "p3": "r", "q1": "s"}

endpoint_names = st.sampled_from(ENDPOINTS)
pod_names = st.sampled_from(PODS)
sizes = st.sampled_from([0, 10, 25, 30, 45, 60, 100, 130])
rarely = st.sampled_from([False, False, False, False, True])
growth = st.sampled_from([0, 0, 0, 1, 5, 20, -5])


ERRORS = Check("errors", Metric.ERROR_RATE, max=0.05, max_increase=0.02, min_samples=50)
SLOW = Check("slow", Metric.LATENCY, max=100.0, max_ratio=2.0, min_samples=50)
HOOK = Check("hook", Metric.WEBHOOK, url="http://hook", interval=10.0)
STEPS = (
    *(SetWeight(weight) for weight in (0, 1, 100, 500, 1000)),
    *(SetShadow(share) for share in (0, 100, 1000)),
    *(Pause(seconds) for seconds in (None, 0.0, 5.0, 70.0)),
    Analyse((ERRORS,), 30.0),
    Analyse((ERRORS, SLOW, HOOK), 60.0),
)


def some_plan(chance: random.Random) -> Plan:
    return Plan(
        strategy=Strategy.CANARY,
        steps=tuple(chance.choices(STEPS, k=chance.randrange(5))),
        checks=chance.choice([(), (ERRORS,), (ERRORS, SLOW, HOOK)]),
        warm_up=chance.choice([WarmUp(), WarmUp(3)]),
        sticky=chance.random() < 0.5,
        deadline=chance.choice([60.0, 600.0]),
        on_deadline=chance.choice([Otherwise.ROLL_BACK, Otherwise.PAUSE]),
        on_inconclusive=chance.choice(list(Otherwise)),
    )


# Made beforehand: one draw each, where drawing their parts would take most of the time.
plans = st.sampled_from([Plan(), Plan(deadline=60.0), *(some_plan(random.Random(number)) for number in range(500))])


class Schedules(RuleBasedStateMachine):
    """An honest but nasty world."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(CoreSettings(max_waiting_per_revision=6, max_waiting=15, second_copy_min_age=40.0))
        self.revisions = 0
        self.broken: set[RevisionId] = set()

    def revision(self, data: st.DataObject) -> RevisionId | None:
        known = sorted(self.world.models)
        return data.draw(st.sampled_from(known), label="revision") if known else None

    @initialize(
        count=st.integers(0, 3),
        concurrency=st.integers(1, 2),
        begun=st.lists(st.tuples(endpoint_names, st.sampled_from([25, 30, 45, 60])), max_size=4),
    )
    def begin(self, count: int, concurrency: int, begun: list[tuple[str, int]]) -> None:
        for name in PODS[:count]:
            self.world.join(pod(name, RUNTIME_OF[name], 100, concurrency))
        for name, size in begun:
            self.declare_endpoint(name, size, "r", 0, 0, False, True, False, 0, True)
            self.world.settle(rounds=20)

    # --- declared state ---

    @rule(
        name=endpoint_names,
        size=sizes,
        runtime=st.sampled_from(["r", "r", "r", "s"]),
        least=st.sampled_from([0, 0, 0, 1, 2]),
        most=st.sampled_from([0, 0, 1, 2]),
        broken=st.sampled_from([False, False, False, True]),
        load=st.booleans(),
        force=st.sampled_from([False, False, False, True]),
        grows=growth,
        recent=st.booleans(),
    )
    def declare_endpoint(
        self, name: str, size: int, runtime: str, least: int, most: int, broken: bool, load: bool, force: bool,
        grows: int, recent: bool,
    ) -> None:  # fmt: skip
        self.revisions += 1
        spec = model(f"{name}-{self.revisions}", size, runtime, least, most)
        if broken:
            self.broken.add(spec.id)
        real = max(1, (size or 10) + grows)
        self.world.declare(spec, last_used=self.world.now if recent else 0.0, load=load, real=real)
        self.world.send(ev.EndpointDeclared(name, spec.id, None, force))

    @rule(name=endpoint_names, size=st.sampled_from([10, 25, 60]), plan=plans, broken=rarely)
    def roll_out(self, name: str, size: int, plan: Plan, broken: bool) -> None:
        self.revisions += 1
        spec = model(f"{name}-{self.revisions}", size, "r")
        if broken:
            self.broken.add(spec.id)
        self.world.declare(spec, real=size)
        self.world.roll_out(name, spec.id, plan, f"{name}-{self.revisions}")

    @precondition(lambda self: self.world.rollouts)
    @rule(data=st.data(), verb=st.sampled_from(Verb))
    def steer(self, data: st.DataObject, verb: Verb) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.rollouts)))
        allowed = refusal(self.world.rollouts[name], verb) is None
        before = self.world.rollouts[name]
        self.world.steer(name, verb)
        assert allowed or self.world.rollouts[name].timeline == before.timeline

    @precondition(lambda self: self.world.rollouts)
    @rule(data=st.data(), requests=st.sampled_from([5, 200]), errors=st.sampled_from([0, 0, 1, 3]))
    def rollout_is_observed(self, data: st.DataObject, requests: int, errors: int) -> None:
        rollout = self.world.rollouts[data.draw(st.sampled_from(sorted(self.world.rollouts)))]
        latencies = ((latency_bucket(5.0), requests),)
        seen = (
            Observation(rollout.active, requests, 0, latencies),
            Observation(rollout.target, requests, requests if errors == 3 else errors, latencies),
        )
        self.world.send(ev.TrafficObserved(rollout.endpoint, seen))

    @precondition(lambda self: self.world.warming)
    @rule(failure=st.sampled_from(["", "", "it answers nothing"]))
    def warm_up_ends(self, failure: str) -> None:
        self.world.warmed(failure)

    @precondition(lambda self: self.world.asking)
    @rule(good=st.sampled_from([True, True, None, False]))
    def check_is_answered(self, good: bool | None) -> None:
        self.world.answered(good)

    @rule(name=endpoint_names)
    def request_canary(self, name: str) -> None:
        self.world.request(RouteKey(name, canary=True))

    @rule(name=endpoint_names, force=st.booleans())
    def roll_back(self, name: str, force: bool) -> None:
        if name in self.world.store:
            active, _ = self.world.store[name]
            self.world.send(ev.EndpointDeclared(name, active, None, force))

    @rule(name=endpoint_names, really=rarely)
    def remove_endpoint(self, name: str, really: bool) -> None:
        if not really:
            return
        self.world.send(ev.EndpointRemoved(name))

    @rule()
    def remove_unused(self) -> None:
        """What the mesh does after a flip."""
        named = {revision for pair in self.world.store.values() for revision in pair}
        for revision in sorted(set(self.world.models) - named):
            del self.world.models[revision]
            self.world.send(ev.ModelRemoved(revision))

    @rule(data=st.data(), really=rarely)
    def remove_model(self, data: st.DataObject, really: bool) -> None:
        """Somebody removes a revision although an endpoint names it: it must not break anything."""
        if not really:
            return
        revision = self.revision(data)
        if revision is not None:
            del self.world.models[revision]
            self.world.send(ev.ModelRemoved(revision))

    @rule(
        data=st.data(),
        size=sizes,
        runtime=st.sampled_from(["r", "r", "r", "s"]),
        least=st.integers(0, 2),
        most=st.integers(0, 2),
        load=st.booleans(),
    )
    def declare_again(self, data: st.DataObject, size: int, runtime: str, least: int, most: int, load: bool) -> None:
        """Also for another runtime, whose pods are others."""
        revision = self.revision(data)
        if revision is not None:
            self.world.declare(model(revision, size, runtime, least, most), load=load)

    @rule(data=st.data(), really=rarely)
    def make_unplaceable(self, data: st.DataObject, really: bool) -> None:
        if not really:
            return
        revision = self.revision(data)
        if revision is not None:
            why = Unplaceable(FailureReason.NO_SUPPORTING_RUNTIME, "nothing serves it")
            spec = model(revision)
            self.world.declare(type(spec)(spec.id, None, why))

    @rule(name=endpoint_names, size=st.sampled_from([30, 60]))
    def update(self, name: str, size: int) -> None:
        """The ordinary case, so that it is common."""
        self.declare_endpoint(name, size, "r", 0, 0, False, False, False, 0, False)

    @rule(name=endpoint_names, sizes=st.lists(st.sampled_from([30, 60]), min_size=2, max_size=3))
    def update_again_and_again(self, name: str, sizes: list[int]) -> None:
        """Before anything that the first one asked for is done."""
        for size in sizes:
            self.update(name, size)
            self.world.request(by_endpoint(name))

    # --- requests ---

    @rule(name=endpoint_names)
    def request(self, name: str) -> None:
        self.world.request(by_endpoint(name))

    @rule(name=endpoint_names, exclude=st.frozensets(pod_names, max_size=2), times=st.integers(1, 3))
    def request_endpoint(self, name: str, exclude: frozenset[PodId], times: int) -> None:
        for _ in range(times):
            self.world.request(by_endpoint(name), exclude)

    @rule(
        data=st.data(),
        exclude=st.frozensets(pod_names, max_size=2),
        patience=st.sampled_from([0.0, 0.5, 5.0, math.inf]),
    )
    def request_revision(self, data: st.DataObject, exclude: frozenset[PodId], patience: float) -> None:
        revision = self.revision(data)
        self.world.request(by_revision(revision or "nobody"), exclude, patience=patience)

    @precondition(lambda self: self.world.tickets)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        self.world.abandon(data.draw(st.sampled_from(sorted(self.world.tickets))))

    @rule(data=st.data(), ago=st.sampled_from([0.0, 1.0, 500.0]), retry=st.booleans())
    def ensure_loaded(self, data: st.DataObject, ago: float, retry: bool) -> None:
        revision = self.revision(data)
        if revision is not None:
            self.world.send(ev.EnsureLoaded(revision, self.world.now - ago if ago else 0.0, retry))

    @rule(data=st.data())
    def unload(self, data: st.DataObject) -> None:
        revision = self.revision(data)
        if revision is not None:
            self.world.send(ev.UnloadRequested(revision))

    @rule(data=st.data(), requests=st.sampled_from([1, 10, 2_000]))
    def use(self, data: st.DataObject, requests: int) -> None:
        revision = self.revision(data)
        if revision is not None:
            self.world.send(ev.UsageReported(1.0, (ev.RevisionUsage(revision, requests),)))

    # --- adapters ---

    def pending(self, kind: str) -> list[tuple[PodId, RevisionId]]:
        return [(name, r) for name, server in self.world.servers.items() for r in getattr(server, kind)]

    @precondition(lambda self: self.pending("loading"))
    @rule(data=st.data())
    def load_succeeds(self, data: st.DataObject) -> None:
        name, revision = data.draw(st.sampled_from(self.pending("loading")))
        if revision in self.broken:
            self.world.failed(name, revision)
        else:
            self.world.loaded(name, revision)

    @precondition(lambda self: self.pending("loading"))
    @rule(data=st.data(), counts=st.booleans())
    def load_fails(self, data: st.DataObject, counts: bool) -> None:
        name, revision = data.draw(st.sampled_from(self.pending("loading")))
        self.world.failed(name, revision, counts=counts)

    @precondition(lambda self: self.pending("unloading"))
    @rule(data=st.data(), succeeds=st.sampled_from([True, True, False]))
    def unload_answers(self, data: st.DataObject, succeeds: bool) -> None:
        name, revision = data.draw(st.sampled_from(self.pending("unloading")))
        if succeeds:
            self.world.unloaded(name, revision)
        else:
            self.world.unload_failed(name, revision)

    @precondition(lambda self: self.pending("draining"))
    @rule(data=st.data())
    def drain_ends(self, data: st.DataObject) -> None:
        name, revision = data.draw(st.sampled_from(self.pending("draining")))
        self.world.drained(name, revision)

    @precondition(lambda self: self.pending("loaded"))
    @rule(data=st.data(), size=st.sampled_from([1, 20, 50, 90, 101]))
    def size_is_measured(self, data: st.DataObject, size: int) -> None:
        name, revision = data.draw(st.sampled_from(self.pending("loaded")))
        self.world.servers[name].loaded[revision] = size
        self.world.send(ev.SizeMeasured(name, revision, size))

    @precondition(lambda self: self.pending("loaded"))
    @rule(data=st.data())
    def copy_is_lost(self, data: st.DataObject) -> None:
        name, revision = data.draw(st.sampled_from(self.pending("loaded")))
        if revision not in self.world.servers[name].unloading:
            self.world.lose_copy(name, revision)

    @rule(data=st.data(), name=pod_names, kind=st.sampled_from(["load", "fail", "unload", "fail unload", "drained"]))
    def late_answer(self, data: st.DataObject, name: PodId, kind: str) -> None:
        """An answer to something that is not under way any more (the mesh drops those of a lost incarnation)."""
        revision = self.revision(data)
        server = self.world.servers.get(name)
        if revision is None:
            return
        if server is not None and revision in (*server.loading, *server.unloading, *server.draining):
            return
        late: dict[str, ev.Event] = {
            "load": ev.LoadSucceeded(name, revision, 10),
            "fail": ev.LoadFailed(name, revision, "late"),
            "unload": ev.UnloadSucceeded(name, revision),
            "fail unload": ev.UnloadFailed(name, revision, "late"),
            "drained": ev.Drained(name, revision),
        }
        self.world.send(late[kind])

    # --- gateways ---

    @rule()
    def gateway_acknowledges(self) -> None:
        self.world.acknowledge()

    @rule()
    def acknowledgement_is_lost(self) -> None:
        self.world.deliver()

    @rule()
    def old_acknowledgement(self) -> None:
        """Of what the gateway runs with, though newer routes are on their way."""
        self.world.send(ev.RoutesAcknowledged(self.world.version - len(self.world.undelivered)))

    # --- pods ---

    @rule(name=pod_names, capacity=st.sampled_from([100, 100, 60]), concurrency=st.integers(1, 2))
    def pod_joins(self, name: str, capacity: int, concurrency: int) -> None:
        if name not in self.world.servers:
            self.world.join(pod(name, RUNTIME_OF[name], capacity, concurrency))

    @precondition(lambda self: self.world.servers)
    @rule(data=st.data(), really=rarely)
    def pod_dies(self, data: st.DataObject, really: bool) -> None:
        if not really:
            return
        self.world.leave(data.draw(st.sampled_from(sorted(self.world.servers))))

    @precondition(lambda self: self.pending("loading"))
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 4.0]), restarts=st.booleans())
    def pod_dies_in_its_pause(self, data: st.DataObject, seconds: float, restarts: bool) -> None:
        """A load is broken off, and then the pod goes, too."""
        name, revision = data.draw(st.sampled_from(self.pending("loading")))
        self.world.failed(name, revision, counts=False)
        if revision in self.world.servers[name].unloading:
            self.world.unloaded(name, revision)
        if seconds:
            self.world.pass_time(seconds)
        if restarts:
            self.world.restart(name)
        else:
            self.world.leave(name)

    @precondition(lambda self: self.world.servers)
    @rule(data=st.data(), really=rarely)
    def pod_restarts(self, data: st.DataObject, really: bool) -> None:
        if not really:
            return
        self.world.restart(data.draw(st.sampled_from(sorted(self.world.servers))))

    @precondition(lambda self: self.world.servers)
    @rule(data=st.data(), really=rarely, cause=st.sampled_from([*Cause, None]), back=st.booleans(), early=st.booleans())
    def server_dies_of_its_models(
        self, data: st.DataObject, really: bool, cause: Cause | None, back: bool, early: bool
    ) -> None:
        """The adapter tells what the server was busy with, before or after the kubelet tells how it ended."""
        if not really:
            return
        name = data.draw(st.sampled_from(sorted(self.world.servers)))
        server = self.world.servers[name]
        answering = data.draw(st.lists(st.sampled_from(sorted(server.loaded)), max_size=2)) if server.loaded else []
        loading = tuple(server.loading)
        if early and cause is not None:
            self.world.send(ev.ServerExited(name, cause, "early"))
        told = None if early or cause is Cause.HUNG else cause
        self.world.lose_server(name, *answering, loading=loading, cause=told)
        if back:
            self.world.come_back(name)
        else:
            del self.world.servers[name]

    @precondition(lambda self: self.pending("loading"))
    @rule(data=st.data(), really=rarely)
    def server_hangs_in_a_load(self, data: st.DataObject, really: bool) -> None:
        if not really:
            return
        name, revision = data.draw(st.sampled_from(self.pending("loading")))
        runtime = self.world.servers[name].spec.runtime
        self.world.send(ev.ServerLost(name, runtime, (Suspect(revision, Doing.LOADING),), "no end", hung=True))
        self.world.send(ev.PodDraining(name, restart=True))
        if revision in self.world.servers[name].loading:
            self.world.failed(name, revision, "no end")

    @precondition(lambda self: self.world.emptied_to_restart())
    @rule(data=st.data())
    def hung_server_is_restarted(self, data: st.DataObject) -> None:
        self.world.restart(data.draw(st.sampled_from(self.world.emptied_to_restart())))

    @rule(name=endpoint_names, exclude=st.frozensets(pod_names, max_size=1))
    def request_was_tried(self, name: str, exclude: frozenset[PodId]) -> None:
        self.world.request(by_endpoint(name), exclude, tried=True)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        revision = self.revision(data)
        if revision is not None:
            self.world.send(ev.Released(revision))

    @precondition(lambda self: self.world.servers)
    @rule(data=st.data(), really=rarely)
    def pod_stops(self, data: st.DataObject, really: bool) -> None:
        if not really:
            return
        self.world.stop(data.draw(st.sampled_from(sorted(self.world.servers))))

    @precondition(lambda self: self.world.servers)
    @rule(data=st.data(), lose=st.booleans())
    def pod_reports_again(self, data: st.DataObject, lose: bool) -> None:
        server = self.world.servers[data.draw(st.sampled_from(sorted(self.world.servers)))]
        idle = [revision for revision in server.loaded if revision not in server.unloading]
        if lose and idle:
            del server.loaded[idle[0]]
            server.draining.pop(idle[0], None)
        self.world.send(server.report())

    # --- time ---

    @rule(seconds=st.sampled_from([0.5, 5.0, 11.0, 45.0, 70.0, 500.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(rounds=st.sampled_from([1, 1, 2, 6]))
    def world_goes_on(self, rounds: int) -> None:
        """Without this, schedules seldom get far."""
        self.world.settle(frozenset(self.broken), rounds=rounds)

    @rule(really=rarely)
    def mesh_restarts(self, really: bool) -> None:
        if not really:
            return
        self.world.restart_core()

    @invariant()
    def views_can_be_shown(self) -> None:
        core = self.world.core
        for revision in core.models():
            assert core.model(revision) is not None
        for name in core.endpoints():
            view = core.endpoint(name)
            assert view is not None
            assert view.active == view.target or view.transition is not Transition.UP_TO_DATE
            assert view.active != view.target or view.transition is not Transition.BLOCKED_BY_FAILED_LOAD

    @invariant()
    def no_rollout_is_past_its_deadline(self) -> None:
        for name in self.world.core.endpoints():
            view = self.world.core.rollout(name)
            if view is not None and view.rollout.live and view.rollout.shown != PAUSED:
                end = view.rollout.started + view.rollout.waited + view.rollout.plan.deadline
                assert self.world.now <= end, f"{name}'s rollout is past its deadline: {view.rollout}"

    def teardown(self) -> None:
        """Once nothing goes wrong any more, every request is answered and everything declared comes true."""
        world = self.world
        if not world.sound:
            return
        self.go_on()
        self.check_answered()
        for name in PODS:
            if name in world.servers and world.servers[name].stopping:
                world.leave(PodId(name))
            if name not in world.servers:
                world.join(pod(name, RUNTIME_OF[name]))
        self.go_on()
        assert not world.tickets, f"never answered: {world.tickets}"
        for _ in range(3):
            world.pass_time(1000.0)
            world.settle(frozenset(self.broken))
        assert not world.undelivered
        self.check_end()

    def go_on(self) -> None:
        """Some minutes in which nothing else happens than that servers that hang are started anew."""
        for _ in range(30):
            self.world.settle(frozenset(self.broken))
            for name in self.world.emptied_to_restart():
                self.world.restart(name)
            self.world.wait(11.0)
        self.world.settle(frozenset(self.broken))

    def check_answered(self) -> None:
        """Whoever still waits waits for a pod."""
        world = self.world
        served = {server.spec.runtime for server in world.servers.values() if not server.stopping}
        for ticket, key in world.tickets.items():
            active, target = (key.name, key.name) if key.is_revision else world.store[EndpointName(key.name)]
            specs = [world.models.get(RevisionId(revision)) for revision in (active, target if key.canary else active)]
            waits = any(spec is not None and spec.runtime not in served for spec in specs)
            assert waits, f"{ticket} is never answered though pods serve {specs}"

    def check_end(self) -> None:
        core = self.world.core
        for revision in core.models():
            view = core.model(revision)
            assert view is not None
            assert not any(copy.state is CopyState.WITHDRAWING for copy in view.copies)
            if view.state is ModelState.LOADING:
                raise AssertionError(f"{revision} is loading for ever: {view}, {core.pods()}")
        for name in core.endpoints():
            endpoint = core.endpoint(name)
            assert endpoint is not None
            view = core.rollout(name)
            paused = view is not None and view.rollout.shown == PAUSED
            if view is not None and view.rollout.live and not paused:
                raise AssertionError(f"{name}'s rollout never ends: {view.rollout}")
            if paused:
                continue
            if endpoint.transition is Transition.IN_PROGRESS and endpoint.target_model.state is ModelState.LOADED:
                raise AssertionError(f"{name} never switches to {endpoint.target}")


# The same schedules at every run, so that a change is judged and not luck, 2000 where the machine is not slow;
# SHOAL_SCHEDULES=N searches N new ones.
EXAMPLES = int(os.environ.get("SHOAL_SCHEDULES") or times(2000))
TestSchedules = pytest.mark.timeout(1200)(Schedules.TestCase)
TestSchedules.settings = settings(
    max_examples=EXAMPLES,
    derandomize="SHOAL_SCHEDULES" not in os.environ,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
