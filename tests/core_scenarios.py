"""Scenarios as readable transcripts: commands in, actions out, with the expected output in the same file.

A file holds blocks: a command, a line `----`, and what came out. Run the tests with SHOAL_REWRITE=1 to write what comes
out now into the files; the difference is then what a reviewer reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

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
    PodDrained,
    Prefetch,
    PublishRoutes,
    Unload,
    WarmUpCopies,
)
from shoal.core.rollout.measure import Observation, latency_bucket
from shoal.core.rollout.plan import (
    WHOLE,
    Analyse,
    Check,
    Metric,
    Otherwise,
    Pause,
    Plan,
    SetShadow,
    SetWeight,
    Step,
    Strategy,
    WarmUp,
)
from shoal.core.rollout.record import Verb
from shoal.core.types import EndpointName, PodId, RevisionId, RouteCopy
from support.core import START, World, by_endpoint, by_revision, model, pod


@dataclass(frozen=True)
class Block:
    """One command with the comment before it and what is expected of it."""

    comment: str
    command: str
    expected: str


def parse(text: str) -> Iterator[Block]:
    """The blocks of a transcript: they are separated by empty lines."""
    for part in text.strip("\n").split("\n\n"):
        lines = part.split("\n")
        comment = "\n".join(line for line in lines if line.startswith("#"))
        rest = [line for line in lines if not line.startswith("#")]
        if not rest:
            yield Block(comment, "", "")
            continue
        assert len(rest) >= 2, f"a command needs ---- and its output: {part!r}"
        assert rest[1] == "----", f"expected ---- after {rest[0]!r}"
        yield Block(comment, rest[0], "\n".join(rest[2:]))


def play(text: str) -> str:
    """Run the commands of a transcript: the transcript with what really came out."""
    player = Player()
    parts = []
    for block in parse(text):
        lines = [block.comment] if block.comment else []
        if block.command:
            lines += [block.command, "----", *player.run(block.command)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


class Player:
    """Carries out commands against a world."""

    def __init__(self) -> None:
        self.world = World()

    def run(self, command: str) -> list[str]:
        """One command: what came out, line by line."""
        verb, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words if "=" not in word]
        result = self._commands()[verb](names, options)
        return result or ["ok"]

    def _commands(self) -> dict[str, Callable[[list[str], dict[str, str]], list[str]]]:
        world = self.world
        return {
            "pod": lambda n, o: show(world.join(self._pod(n[0], o))),
            "restart": lambda n, o: show(world.restart(PodId(n[0]))),
            "die": lambda n, o: show(world.leave(PodId(n[0]))),
            "stop": lambda n, o: show(world.stop(PodId(n[0]))),
            "holds": self._holds,
            "model": self._model,
            "remove": self._remove,
            "endpoint": self._endpoint,
            "force": lambda n, o: show(
                world.send(ev.EndpointDeclared(EndpointName(n[0]), RevisionId(n[1]), force=True))
            ),
            "request": lambda n, o: show(
                [a for _ in range(int(o.get("times", "1"))) for a in world.request(by_endpoint(n[0]))]
            ),
            "request-revision": lambda n, o: show(world.request(by_revision(n[0]))),
            "ensure": lambda n, o: show(world.send(ev.EnsureLoaded(RevisionId(n[0]), retry="retry" in n))),
            "use": lambda n, o: show(
                world.send(
                    ev.UsageReported(
                        float(o.get("seconds", "1")), (ev.RevisionUsage(RevisionId(n[0]), int(o.get("requests", "1"))),)
                    )
                )
            ),
            "loaded": lambda n, o: show(
                world.loaded(PodId(n[1]), RevisionId(n[0]), int(o["size"]) if "size" in o else None)
            ),
            "failed": lambda n, o: show(
                world.failed(
                    PodId(n[1]), RevisionId(n[0]), o.get("message", "broken").replace("_", " "), "podfault" not in n
                )
            ),
            "unloaded": lambda n, o: show(world.unloaded(PodId(n[1]), RevisionId(n[0]))),
            "unload-failed": lambda n, o: show(world.unload_failed(PodId(n[1]), RevisionId(n[0]))),
            "drained": lambda n, o: show(world.drained(PodId(n[1]), RevisionId(n[0]))),
            "missing": lambda n, o: show(world.lose_copy(PodId(n[1]), RevisionId(n[0]))),
            "acknowledge": lambda n, o: show(world.acknowledge()),
            "measured": lambda n, o: show(world.send(ev.SizeMeasured(PodId(n[1]), RevisionId(n[0]), int(o["size"])))),
            "wait": lambda n, o: show(world.pass_time(float(n[0]))),
            "settle": lambda n, o: self._settle(),
            "show": lambda n, o: self._show(),
            "status": self._status,
            "why": lambda n, o: [
                f"{d.what} {d.chosen or '-'}: {d.because}" + "".join(f"; not {r.pod}: {r.why}" for r in d.rejected)
                for d in world.core.why(RevisionId(n[0]))
            ],
            "restart-mesh": self._restart_mesh,
            "rollout": self._rollout,
            "observe": self._observe,
            "warmed": lambda n, o: show(world.warmed(" ".join(n))),
            "answered": lambda n, o: show(world.answered(n[0] == "good", " ".join(n[1:]))),
            "rollout-status": self._rollout_status,
            **{verb.value: partial(self._steer, verb) for verb in Verb},
        }

    def _pod(self, name: str, options: dict[str, str]):
        return pod(
            name,
            options.get("runtime", "r"),
            int(options.get("capacity", "100")),
            int(options.get("concurrency", "1")),
            int(options.get("default", "10")),
        )

    def _holds(self, names: list[str], options: dict[str, str]) -> list[str]:
        """A pod reports anew, and this is what it holds."""
        server = self.world.servers[PodId(names[0])]
        server.loaded = {RevisionId(revision): int(size) for revision, size in options.items()}
        return show(self.world.send(server.report()))

    def _model(self, names: list[str], options: dict[str, str]) -> list[str]:
        spec = model(
            names[0],
            int(options.get("size", "30")),
            options.get("runtime", "r"),
            int(options.get("min", "0")),
            int(options.get("max", "0")),
        )
        used = START + float(options["used"]) if "used" in options else 0.0
        return show(self.world.declare(spec, last_used=used, load="load" in names))

    def _remove(self, names: list[str], options: dict[str, str]) -> list[str]:
        del self.world.models[RevisionId(names[0])]
        return show(self.world.send(ev.ModelRemoved(RevisionId(names[0]))))

    def _endpoint(self, names: list[str], options: dict[str, str]) -> list[str]:
        """Declare an endpoint; a target that is not declared yet is, with the default size."""
        target = RevisionId(names[1])
        if target not in self.world.models:
            self._model([names[1]], options)
        active = RevisionId(options["active"]) if "active" in options else None
        return show(self.world.send(ev.EndpointDeclared(EndpointName(names[0]), target, active)))

    def _rollout(self, names: list[str], options: dict[str, str]) -> list[str]:
        """`rollout ENDPOINT TARGET 10% pause:30 shadow:5% analyse:60 errors<0.01 webhook warm=8`."""
        name, target, *steps = names
        checks = tuple(_check(step) for step in steps if step == "webhook" or "<" in step)
        plan = Plan(
            Strategy.CANARY,
            steps=tuple(_step(step, checks) for step in steps if step != "webhook" and "<" not in step),
            checks=checks,
            warm_up=WarmUp(int(options.get("warm", "0"))),
            deadline=float(options.get("deadline", "3600")),
            on_inconclusive=Otherwise(options.get("inconclusive", "pause")),
        )
        lines = [] if RevisionId(target) in self.world.models else self._model([target], options)
        return lines + show(self.world.roll_out(name, target, plan))

    def _observe(self, names: list[str], options: dict[str, str]) -> list[str]:
        """Requests of an endpoint that a revision answered."""
        requests = int(options["requests"])
        latencies = ((latency_bucket(float(options.get("ms", "5"))), requests),)
        seen = Observation(RevisionId(names[1]), requests, int(options.get("errors", "0")), latencies)
        return show(self.world.send(ev.TrafficObserved(EndpointName(names[0]), (seen,))))

    def _steer(self, verb: Verb, names: list[str], options: dict[str, str]) -> list[str]:
        return show(self.world.steer(names[0], verb))

    def _rollout_status(self, names: list[str], options: dict[str, str]) -> list[str]:
        view = self.world.core.rollout(EndpointName(names[0]))
        if view is None:
            return ["no rollout"]
        record = view.rollout
        lines = [f"{record.id}: {record.shown}, step {record.step} of {len(record.plan.steps)}"]
        lines += [f"because {record.reason}"] if record.reason else []
        lines += [f"check {result.name}: {result.verdict.value}" for result in record.checks]
        return lines + [f"+{entry.at - record.started:g}s {entry.what}" for entry in record.timeline]

    def _settle(self) -> list[str]:
        lines: list[str] = []
        world, send = self.world, self.world.send

        def heard(event: ev.Event) -> list[Action]:
            actions = send(event)
            lines.extend(show(actions))
            return actions

        world.send = heard  # type: ignore[method-assign]
        try:
            world.settle()
        finally:
            del world.send  # type: ignore[attr-defined]
        return lines

    def _show(self) -> list[str]:
        lines = []
        for view in self.world.core.pods():
            draining = " draining" if view.draining else ""
            lines.append(f"{view.spec.id}: {view.used_bytes} of {view.spec.capacity_bytes}{draining}")
        copies = sorted(self.world.core.copies(), key=lambda copy: (copy.pod, copy.revision))
        return lines + [f"  {copy.pod} {copy.revision} {copy.state.value} {copy.size_bytes}" for copy in copies]

    def _status(self, names: list[str], options: dict[str, str]) -> list[str]:
        view = self.world.core.endpoint(EndpointName(names[0]))
        if view is None:
            return ["no such endpoint"]
        lines = [f"active {view.active} {view.active_model.state.value}"]
        if view.target != view.active:
            lines.append(f"target {view.target} {view.target_model.state.value}")
        lines.append(view.transition.value)
        if view.failure is not None:
            lines.append(f"{view.failure.reason.value}: {view.failure.message}")
        return lines

    def _restart_mesh(self, names: list[str], options: dict[str, str]) -> list[str]:
        lines: list[str] = []
        send = self.world.send

        def heard(event: ev.Event) -> list[Action]:
            actions = send(event)
            lines.append(f"> {type(event).__name__}")
            lines.extend(show(actions))
            return actions

        self.world.send = heard  # type: ignore[method-assign]
        try:
            self.world.restart_core()
        finally:
            del self.world.send  # type: ignore[attr-defined]
        return lines


def show(actions: list[Action]) -> list[str]:
    """Actions in words; reports of change are left out."""
    return [line for action in actions for line in _line(action)]


def _line(action: Action) -> list[str]:
    match action:
        case Persist(name, None, _):
            return [f"persist {name}: forget"]
        case Persist(name, active, target):
            return [f"persist {name}: {active}" + (f" -> {target}" if target != active else "")]
        case PublishRoutes(version, changes):
            found = [
                f"  {'revision' if key.is_revision else 'canary' if key.canary else 'endpoint'} {key.name}: "
                + (", ".join(_route_copy(copy) for copy in copies) or "nowhere")
                for key, copies in changes.items()
            ]
            return [f"publish {version}", *found]
        case Answer(ticket, Forward(pod_id, revision)):
            return [f"answer {ticket}: {revision}@{pod_id}"]
        case Answer(ticket, rejected):
            assert not isinstance(rejected, Forward)
            return [f"answer {ticket}: {rejected.code.value} {rejected.message}"]
        case PodDrained(pod_id):
            return [f"drained pod {pod_id}"]
        case Changed():
            return []
        case PersistRollout(rollout):
            return [f"persist rollout {rollout.id}: {rollout.shown}, step {rollout.step}"]
        case WarmUpCopies():
            return [f"warm up {action.revision} on {', '.join(action.pods)} with {action.warm_up.requests} requests"]
        case AskCheck():
            return [f"ask {action.check.name}"]
        case Load() | Prefetch() | CancelLoad() | Unload() | Drain():
            names = {Load: "load", Prefetch: "prefetch", CancelLoad: "cancel", Unload: "unload", Drain: "drain"}
            return [f"{names[type(action)]} {action.revision}@{action.pod}"]
    raise AssertionError(action)


def _route_copy(copy: RouteCopy) -> str:
    """Where requests are sent, with its share where they are divided; shadowed requests go by way of the activator."""
    place = f"{copy.revision}@{copy.pod}" if copy.pod else "activator"
    return place + (f" {copy.weight * 100 / WHOLE:g}%" if copy.weight != 1 else "")


def _step(word: str, checks: tuple[Check, ...]) -> Step:
    """`10%`, `shadow:5%`, `pause`, `pause:30`, or `analyse:60`, which is by all checks."""
    kind, _, value = word.partition(":")
    match kind:
        case "pause":
            return Pause(float(value) if value else None)
        case "analyse":
            return Analyse(checks, float(value))
        case "shadow":
            return SetShadow(_per_mille(value))
    return SetWeight(_per_mille(word))


def _per_mille(percent: str) -> int:
    return round(float(percent.removesuffix("%")) * WHOLE / 100)


def _check(word: str) -> Check:
    """`errors<0.01`, which needs 100 requests, or `webhook`."""
    if word == "webhook":
        return Check("webhook", Metric.WEBHOOK, url="http://127.0.0.1/check")
    name, _, most = word.partition("<")
    assert name == "errors", word
    return Check(name, Metric.ERROR_RATE, max=float(most), min_samples=100)
