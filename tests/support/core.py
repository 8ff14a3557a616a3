"""A simulated world around the core: model servers, one gateway, a store and clients, honest but slow and mortal.

It carries out the core's actions and checks each against what it knows itself, independently of the core's records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from shoal.core import events as ev
from shoal.core.actions import (
    Action,
    Answer,
    AskCheck,
    CancelLoad,
    Changed,
    Drain,
    Forward,
    Load,
    Persist,
    PersistRollout,
    PersistSuspicion,
    PodDrained,
    Prefetch,
    PublishRoutes,
    Reject,
    RejectCode,
    Unload,
    WarmUpCopies,
)
from shoal.core.core import Core
from shoal.core.rollout.plan import WHOLE, Plan
from shoal.core.rollout.record import Rollout, Verb
from shoal.core.settings import CoreSettings
from shoal.core.suspicion import Cause, Doing, Suspect, Suspicion
from shoal.core.types import (
    NO_POD,
    CopyState,
    EndpointName,
    LoadedCopy,
    PodId,
    PodSpec,
    RevisionId,
    RevisionSpec,
    RouteCopy,
    RouteKey,
    RuntimeName,
    Ticket,
)

START = 1_000_000.0


@dataclass
class Server:
    """One model server: what it really holds and what it was asked to do and has not answered."""

    spec: PodSpec
    incarnation: int = 0
    loaded: dict[RevisionId, int] = field(default_factory=dict)
    loading: dict[RevisionId, None] = field(default_factory=dict)
    prefetching: set[RevisionId] = field(default_factory=set)
    unloading: dict[RevisionId, None] = field(default_factory=dict)
    draining: dict[RevisionId, None] = field(default_factory=dict)
    stopping: bool = False
    emptied: bool = False

    def report(self) -> ev.PodReported:
        copies = tuple(LoadedCopy(revision, size) for revision, size in self.loaded.items())
        return ev.PodReported(self.spec, copies, str(self.incarnation))


class World:
    """Everything outside the core."""

    def __init__(self, settings: CoreSettings | None = None, *, seed: int = 0) -> None:
        self.settings = settings or CoreSettings()
        self.seed = seed
        self.now = START
        self.core = Core(self.settings, seed=seed)
        self.servers: dict[PodId, Server] = {}
        self.models: dict[RevisionId, RevisionSpec] = {}
        self.real_bytes: dict[RevisionId, int] = {}
        self.store: dict[EndpointName, tuple[RevisionId, RevisionId]] = {}
        self.rollouts: dict[EndpointName, Rollout] = {}
        self.suspicions: dict[RevisionId, Suspicion] = {}
        self.warming: list[WarmUpCopies] = []
        self.asking: list[AskCheck] = []
        self.table: dict[RouteKey, tuple[RouteCopy, ...]] = {}
        self.gateway: dict[RouteKey, tuple[RouteCopy, ...]] = {}
        self.undelivered: list[PublishRoutes] = []
        self.published_at: dict[int, float] = {}
        self.version = 0
        self.tickets: dict[Ticket, RouteKey] = {}
        self.answers: dict[Ticket, Forward | Reject] = {}
        self.next_ticket = 1
        self.sound = True
        """False once a step broke a promise: nothing that follows means anything."""

    # --- in ---

    def send(self, event: ev.Event) -> list[Action]:
        """Hand an event to the core and carry out what it asks for."""
        self.sound = False
        actions = self.core.handle(event, self.now)
        for action in actions:
            self._carry_out(action)
        self.core.check_invariants()
        self._check()
        self.sound = True
        return actions

    def join(self, spec: PodSpec) -> list[Action]:
        self.servers[spec.id] = Server(spec)
        return self.send(self.servers[spec.id].report())

    def leave(self, pod: PodId) -> list[Action]:
        del self.servers[pod]
        return self.send(ev.PodLeft(pod))

    def restart(self, pod: PodId) -> list[Action]:
        old = self.servers[pod]
        again = Server(old.spec, old.incarnation + 1, prefetching=old.prefetching, stopping=old.stopping)
        self.servers[pod] = again  # only the model server died: its adapter goes on
        return self.send(self.servers[pod].report())

    def declare(
        self, spec: RevisionSpec, *, last_used: float = 0.0, load: bool = False, real: int | None = None
    ) -> list[Action]:
        self.models[spec.id] = spec
        if real is not None:
            self.real_bytes[spec.id] = real
        return self.send(ev.ModelDeclared(spec, last_used, load))

    def roll_out(self, name: str, target: str, plan: Plan, rollout: str = "") -> list[Action]:
        """Declare another revision for an endpoint, by a plan."""
        rollout = rollout or f"{name}-{len(self.rollouts) + 1}"
        return self.send(
            ev.EndpointDeclared(EndpointName(name), RevisionId(target), plan=plan, rollout=rollout, by="somebody")
        )

    def steer(self, name: str, verb: Verb, reason: str = "") -> list[Action]:
        record = self.rollouts[EndpointName(name)]
        return self.send(ev.RolloutCommanded(record.endpoint, record.id, verb, "somebody", reason))

    def warmed(self, failure: str = "") -> list[Action]:
        asked = self.warming.pop(0)
        return self.send(ev.WarmedUp(asked.endpoint, asked.rollout, failure))

    def answered(self, good: bool | None, message: str = "") -> list[Action]:
        asked = self.asking.pop(0)
        return self.send(ev.CheckAnswered(asked.endpoint, asked.rollout, asked.check.name, good, None, message))

    def request(
        self,
        key: RouteKey,
        exclude: frozenset[PodId] = frozenset(),
        *,
        tried: bool = False,
        patience: float = math.inf,
    ) -> list[Action]:
        ticket = Ticket(self.next_ticket)
        self.next_ticket += 1
        self.tickets[ticket] = key
        return self.send(ev.RequestWaiting(ticket, key, exclude, tried, patience))

    def abandon(self, ticket: Ticket) -> list[Action]:
        del self.tickets[ticket]
        return self.send(ev.RequestAbandoned(ticket))

    def lose_server(
        self, pod: PodId, *answering: str, loading: tuple[str, ...] = (), cause: Cause | None = Cause.CRASHED
    ) -> None:
        """A model server dies while it is busy, and whoever runs its container says of what; None: nobody says."""
        self.send(
            ev.ServerLost(
                pod,
                self.servers[pod].spec.runtime,
                tuple(Suspect(RevisionId(name), Doing.LOADING) for name in loading)
                + tuple(Suspect(RevisionId(name), Doing.ANSWERING) for name in answering),
                "it died",
            )
        )
        old = self.servers.pop(pod)
        self.send(ev.PodLeft(pod))
        if cause is not None:
            self.send(ev.ServerExited(pod, cause, "exit code 139 (segmentation fault)"))
        self.servers[pod] = Server(old.spec, old.incarnation + 1)

    def emptied_to_restart(self) -> list[PodId]:
        """Pods that were drained only to have their server started anew."""
        return sorted(name for name, server in self.servers.items() if server.emptied and not server.stopping)

    def come_back(self, pod: PodId) -> list[Action]:
        """A server that was lost reports again."""
        return self.send(self.servers[pod].report())

    def loaded(self, pod: PodId, revision: RevisionId, size: int | None = None) -> list[Action]:
        """The server finished a load."""
        server = self.servers[pod]
        del server.loading[revision]
        size = size or self.size_of(server, revision)
        if size <= server.spec.capacity_bytes:
            server.loaded[revision] = size
        return self.send(ev.LoadSucceeded(pod, revision, size))

    def size_of(self, server: Server, revision: RevisionId) -> int:
        spec = self.models.get(revision)
        predicted = spec.predicted_bytes if spec else 0
        return self.real_bytes.get(revision) or predicted or server.spec.default_model_bytes

    def failed(self, pod: PodId, revision: RevisionId, message: str = "it broke", counts: bool = True) -> list[Action]:
        del self.servers[pod].loading[revision]
        return self.send(ev.LoadFailed(pod, revision, message, counts))

    def unloaded(self, pod: PodId, revision: RevisionId) -> list[Action]:
        server = self.servers[pod]
        del server.unloading[revision]
        server.loaded.pop(revision, None)
        return self.send(ev.UnloadSucceeded(pod, revision))

    def unload_failed(self, pod: PodId, revision: RevisionId) -> list[Action]:
        del self.servers[pod].unloading[revision]
        return self.send(ev.UnloadFailed(pod, revision, "busy"))

    def drained(self, pod: PodId, revision: RevisionId) -> list[Action]:
        del self.servers[pod].draining[revision]
        return self.send(ev.Drained(pod, revision))

    def lose_copy(self, pod: PodId, revision: RevisionId) -> list[Action]:
        """The server loses a copy by itself, and somebody is told."""
        self.servers[pod].loaded.pop(revision, None)
        return self.send(ev.CopyMissing(pod, revision))

    def deliver(self) -> int:
        """The gateway applies everything published so far (its acknowledgement is another step)."""
        for publication in self.undelivered:
            self.gateway.update(publication.changes)
        self.undelivered.clear()
        return self.version

    def acknowledge(self) -> list[Action]:
        return self.send(ev.RoutesAcknowledged(self.deliver()))

    def restart_core(self) -> None:
        """The mesh dies and a new one takes over: everything is declared anew, then every pod reports."""
        self.tickets.clear()
        self.warming.clear()
        self.asking.clear()
        self.core = Core(self.settings, seed=self.seed)
        self.undelivered.clear()
        self.gateway.clear()
        self.table.clear()
        self.version = 0
        self.published_at.clear()
        stored = dict(self.store)
        for server in self.servers.values():
            server.loading.clear()
            server.prefetching.clear()
            server.unloading.clear()
            server.draining.clear()
            server.emptied = False
        for spec in list(self.models.values()):
            self.send(ev.ModelDeclared(spec))
        for revision, suspicion in dict(self.suspicions).items():
            self.send(ev.SuspicionRestored(revision, suspicion))
        for name, (active, target) in stored.items():
            before = self.rollouts.get(name)
            plan = before.plan if before else None
            self.send(ev.EndpointDeclared(name, target, active, plan=plan, rollout="again", resume=before))
        for pod in list(self.servers):
            self.send(self.servers[pod].report())
            if self.servers[pod].stopping:
                self.send(ev.PodDraining(pod))

    def pass_time(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.send(ev.Tick())

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass as the mesh does: the core is only told so when it asked to be."""
        end, actions = self.now + seconds, list[Action]()
        while (due := self.core.next_due(self.now)) is not None and due <= end:
            self.now = due
            actions += self.send(ev.Tick())
        self.now = end
        return actions

    def stop(self, pod: PodId) -> list[Action]:
        self.servers[pod].stopping = True
        return self.send(ev.PodDraining(pod))

    # --- out ---

    def _carry_out(self, action: Action) -> None:
        match action:
            case Persist(name, None, _):
                self.store.pop(name, None)
                self.rollouts.pop(name, None)
            case PersistRollout(rollout):
                self.rollouts[rollout.endpoint] = rollout
            case PersistSuspicion(revision, None):
                self.suspicions.pop(revision, None)
            case PersistSuspicion(revision, suspicion):
                assert suspicion is not None
                self.suspicions[revision] = suspicion
            case WarmUpCopies(_, _, revision, pods, _):
                assert all(revision in self.servers[pod].loaded for pod in pods)
                self.warming = [asked for asked in self.warming if asked.endpoint != action.endpoint] + [action]
            case AskCheck():
                self.asking.append(action)
            case Persist(name, active, target):
                assert active is not None
                assert target is not None
                self.store[name] = (active, target)
            case Load(pod, revision):
                server = self.servers[pod]
                assert revision not in server.loading, f"{revision} is loading on {pod} already"
                assert revision not in server.loaded, f"{revision} is loaded on {pod} already"
                assert revision not in server.unloading, f"{revision} is being unloaded from {pod}"
                server.loading[revision] = None
                server.prefetching.discard(revision)
            case Prefetch(pod, revision):
                assert revision not in self.servers[pod].prefetching, f"{revision} is fetched to {pod} already"
                self.servers[pod].prefetching.add(revision)
            case CancelLoad(pod, revision):
                self._cancel(self.servers.get(pod), revision)
            case Unload(pod, revision):
                self._unload(self.servers[pod], revision)
            case Drain(pod, revision):
                self.servers[pod].draining[revision] = None
            case PublishRoutes(version, changes):
                assert version > self.version
                self.version = version
                self.published_at[version] = self.now
                self.undelivered.append(action)
                self.table.update(changes)
            case Answer(ticket, result):
                assert ticket in self.tickets, f"{ticket} is answered twice, or was never asked"
                self._answered(self.tickets.pop(ticket), result)
                self.answers[ticket] = result
            case PodDrained(pod):
                if pod in self.servers:
                    self.servers[pod].emptied = True
            case Changed(_, revisions):
                for revision in revisions:
                    self._check_words(revision)
            case _:
                raise AssertionError(f"nobody can carry out {action}")

    def _cancel(self, server: Server | None, revision: RevisionId) -> None:
        if server is None:
            return  # what was fetched went with the pod
        if revision in server.prefetching:
            assert revision not in server.loading
            server.prefetching.remove(revision)
        else:
            del server.loading[revision]

    def _unload(self, server: Server, revision: RevisionId) -> None:
        assert revision not in server.loading
        server.unloading[revision] = None
        server.draining.pop(revision, None)
        if revision not in server.loaded:
            return  # a load that failed or was cancelled: what a gateway may still believe is of before it was lost
        for key, copies in self.gateway.items():
            if RouteCopy(server.spec.id, revision) in copies:
                waited = self.now - min((self.published_at[p.version] for p in self.undelivered), default=self.now)
                bound = self.settings.routes_ack_timeout
                assert waited >= bound, f"a gateway still routes {key.name} to {revision} on {server.spec.id}"

    def _answered(self, key: RouteKey, result: Forward | Reject) -> None:
        if isinstance(result, Reject):
            assert isinstance(result.code, RejectCode)
            assert result.message
            return
        server = self.servers[result.pod]
        assert result.revision in server.loaded, f"{key.name} is sent to {result.pod}, which lacks {result.revision}"
        assert result.revision not in server.unloading
        if key.is_revision:
            assert result.revision == key.name
        else:
            active, target = self.store[EndpointName(key.name)]
            wanted = (active, target) if key.canary else (active,)
            assert result.revision in wanted, f"{key.name} serves {active}, but a request went to {result.revision}"

    def _check(self) -> None:
        for key, copies in self.table.items():
            for copy in copies:
                if copy.pod == NO_POD:
                    rollout = self.rollouts[EndpointName(key.name)]
                    assert copy.weight == min(rollout.shadow, WHOLE - rollout.weight)
                    continue
                server = self.servers.get(copy.pod)
                assert server is not None, f"{key.name} is routed to the vanished {copy.pod}"
                assert copy.revision in server.loaded, f"{key.name} is routed to {copy.pod}, which lacks it"
                spec = self.models.get(copy.revision)
                assert spec is None or spec.runtime == server.spec.runtime, f"{key.name} is routed to a former runtime"
                if not key.is_revision:
                    self._check_share(key, copy)
            if not key.is_revision and any(copy.weight > 1 for copy in copies):
                assert sum({copy.revision: copy.weight for copy in copies}.values()) == WHOLE
        for server in self.servers.values():
            for revision in server.loading:
                assert server.loaded.keys().isdisjoint({revision})
            queued = {copy.revision for copy in self.core.copies_on(server.spec.id) if copy.state is CopyState.QUEUED}
            assert server.prefetching <= queued, "files are fetched for what is not queued"
            assert len(server.prefetching) <= self.settings.max_prefetches

    def _check_words(self, revision: RevisionId) -> None:
        """Whatever was decided about a revision, and why it failed, is said."""
        view = self.core.model(revision)
        failures = view.failures if view is not None else ()
        assert all(failure.message for failure in failures)
        assert all(decision.what and decision.because for decision in self.core.why(revision))

    def _check_share(self, key: RouteKey, copy: RouteCopy) -> None:
        """What a route says was made durable before, and nobody but a rollout sends requests to another revision."""
        active, target = self.store[EndpointName(key.name)]
        if key.canary:
            assert copy.revision == target
        elif copy.revision != active:
            rollout = self.rollouts[EndpointName(key.name)]
            assert rollout.live
            assert copy.revision == target == rollout.target
            assert 0 < copy.weight == rollout.weight

    # --- calm ---

    def settle(self, broken: frozenset[RevisionId] = frozenset(), rounds: int = 400) -> None:
        """Nothing goes wrong any more: answer whatever is asked until nothing is left to do."""
        for _ in range(rounds):
            if not self.step_calmly(broken):
                return

    def step_calmly(self, broken: frozenset[RevisionId]) -> bool:
        if self.undelivered:
            self.acknowledge()
            return True
        if self.emptied_to_restart():
            self.restart(self.emptied_to_restart()[0])
            return True
        if self.warming:
            self.warmed()
            return True
        if self.asking:
            self.answered(good=True)
            return True
        for pod, server in self.servers.items():
            if server.loading:
                revision = next(iter(server.loading))
                if revision in broken:
                    self.failed(pod, revision)
                else:
                    self.loaded(pod, revision)
                return True
            if server.draining:
                self.drained(pod, next(iter(server.draining)))
                return True
            if server.unloading:
                self.unloaded(pod, next(iter(server.unloading)))
                return True
        return False


def rejection(world: World, ticket: int) -> Reject:
    """The refusal a request got."""
    answer = world.answers[Ticket(ticket)]
    assert isinstance(answer, Reject)
    return answer


def world_with(*pods: str, settings: CoreSettings | None = None) -> World:
    """A world with pods of 100 bytes that had time to report."""
    world = World(settings)
    for name in pods:
        world.join(pod(name))
    world.pass_time(2)
    return world


def pod(name: str = "p1", runtime: str = "r", capacity: int = 100, concurrency: int = 1, default: int = 10) -> PodSpec:
    """A pod spec of small numbers."""
    return PodSpec(PodId(name), RuntimeName(runtime), capacity, concurrency, default)


def model(name: str, size: int = 30, runtime: str = "r", least: int = 0, most: int = 0) -> RevisionSpec:
    """A model spec of small numbers."""
    return RevisionSpec(RevisionId(name), RuntimeName(runtime), None, size, least, most)


def by_revision(name: str) -> RouteKey:
    return RouteKey(name, is_revision=True)


def by_endpoint(name: str) -> RouteKey:
    return RouteKey(name)
