"""What keeps the pods of a runtime from becoming ready, as their status tells it. Pure.

Messages have nothing in them that changes while the cause is the same, such as delays, counts of restarts or times:
they are compared to tell whether there is anything new to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from shoal.controller.endings import MAX_WORDS, words_of
from shoal.controller.times import seconds_of

_STARTING: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
_CRASH_LOOP: Final = "CrashLoopBackOff"
_NOT_STARTED: Final = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons of an end that was none: the container's program could not be run."""
_SHORT_OF: Final = {"ImagePullBackOff": "ErrImagePull"}
"""States that take turns with others, and tell less than those."""
_ONCE: Final = 1
"""So many restarts are forgiven: a model may kill its server, and is quarantined for it."""
_LONG_RUN: Final = 600.0
"""Seconds after which a container that ends had started well, as kubelets count."""
_LONGER: Final = 1.5
_STEADY: Final = 10.0
"""A container that ended again and again is trusted once it has run so many times as long as before, and so many
seconds more."""
_UNREADY: Final = "ContainersNotReady"
_PATIENCE: Final = 300.0
"""Seconds a container may take to become ready before that is told."""
_UNUSABLE: Final = "PodUnusable"
_DOUBT: Final = 30.0
"""Seconds for which the mesh may not be able to use a ready pod before that is told."""
_STOPPED_WITH_NODE: Final = "NodeShutdown"
_OVER: Final = ("Succeeded", "Failed")
_NUMBER: Final = re.compile(r"\w*\d\w*")

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not become ready."""

    reason: str
    """Kubernetes' word, such as `ErrImageNeverPull`."""
    message: str
    of: str = ""
    """The container, of which pod template."""
    pattern: str = ""
    """The message without what differs from one time to the next."""
    until: float | None = field(default=None, compare=False)
    """When it is over, if what runs by now goes on; None if that does not help."""


@dataclass(frozen=True, slots=True)
class PodsStanding:
    """How the pods of a runtime stand. Pods that are stopping do not count."""

    total: int = 0
    ready: int = 0
    trouble: Trouble | None = None
    until: float | None = None
    """When to look again, although nothing may have changed."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """What the mesh says of a pod that it cannot use."""

    why: str
    since: float


def standing_of(
    runtime: str,
    pods: Iterable[Document],
    now: float,
    before: Trouble | None = None,
    unusable: Mapping[str, Unusable] = MappingProxyType({}),
) -> PodsStanding:
    """How the pods of a runtime stand. Of several troubles that of `before` stays; else the newest pod is told of.

    `unusable`: pods by name, whatever Kubernetes says of them.
    """
    living = sorted((pod for pod in pods if _lives(pod)), key=_age, reverse=True)
    doubts = [unusable.get(str(pod["metadata"]["name"])) for pod in living]
    troubles = [
        trouble_of(runtime, pod, now) or (_unused(runtime, pod, doubt, now) if doubt is not None else None)
        for pod, doubt in zip(living, doubts, strict=True)
    ]
    found = [trouble for trouble in troubles if trouble is not None]
    trouble = found[0] if found else None
    if before is not None and any(_same(each, before) for each in found):
        trouble = before
    ready = sum(
        trouble is None and doubt is None and _is_ready(pod)
        for pod, trouble, doubt in zip(living, troubles, doubts, strict=True)
    )
    times = [each.until for each in found if each.until is not None]
    times += [due for pod in living for container in _containers(pod) if (due := _due(container)) > now]
    times += [doubt.since + _DOUBT for doubt in doubts if doubt is not None and doubt.since + _DOUBT > now]
    until = min(times, default=None)
    return PodsStanding(len(living), ready, trouble, until)


def trouble_of(runtime: str, pod: Document, now: float) -> Trouble | None:
    """What keeps one pod from serving; None while it starts, and when all is well.

    A pod may be ready for the moments in which a container runs that has no probe and ends again and again.
    """
    status = pod.get("status") or {}
    template = _template(pod)
    for placed in _conditions(status, "PodScheduled"):
        if placed.get("status") == "False" and placed.get("reason"):
            message = f"a pod of runtime {runtime} finds no node: {placed.get('message', '')}"
            return Trouble(str(placed["reason"]), message, template, message)
    containers = _containers(pod)
    waiting, ending = map(_waits, containers), (_ends(container, now) for container in containers)
    for held in (*waiting, *ending, *(_idles(container, pod, now) for container in containers)):
        if held is not None:
            message = f"container {held.container} of runtime {runtime} {held.what}"
            of = f"{template}/{held.container}"
            return Trouble(held.reason, message, of, held.pattern or message, held.until)
    return None


def _unused(runtime: str, pod: Document, doubt: Unusable, now: float) -> Trouble | None:
    """Why the mesh does not use a pod that is ready, unless that may be over in a moment."""
    if not _is_ready(pod) or now < doubt.since + _DOUBT:
        return None
    message = f"a pod of runtime {runtime} is ready, but the mesh cannot use it: {doubt.why}"
    return Trouble(_UNUSABLE, message, _template(pod), f"{_UNUSABLE} {_NUMBER.sub('#', doubt.why)}")


def uncreated_pods(runtime: str, deployment: Document | None) -> Trouble | None:
    """Why the pods of a Deployment cannot even be created, such as a quota."""
    for failed in _conditions((deployment or {}).get("status") or {}, "ReplicaFailure"):
        if failed.get("status") == "True":
            message = f"pods of runtime {runtime} cannot be created: {failed.get('message', '')}"
            return Trouble(str(failed.get("reason") or "FailedCreate"), message, "", message)
    return None


def _is_ready(pod: Document) -> bool:
    """Whether a pod is ready."""
    return any(each.get("status") == "True" for each in _conditions(pod.get("status") or {}, "Ready"))


def _template(pod: Document) -> str:
    return str((pod["metadata"].get("labels") or {}).get("pod-template-hash", ""))


def _lives(pod: Document) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and (pod.get("status") or {}).get("phase") not in _OVER


def _age(pod: Document) -> tuple[str, str]:
    return str(pod["metadata"].get("creationTimestamp", "")), str(pod["metadata"]["name"])


def _containers(pod: Document) -> list[Document]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _conditions(status: Document, kind: str) -> Iterator[Document]:
    return (each for each in status.get("conditions") or () if each.get("type") == kind)


def _same(found: Trouble, before: Trouble) -> bool:
    if found.of != before.of:
        return False
    return found.pattern == before.pattern or _SHORT_OF.get(found.reason) == before.reason


@dataclass(frozen=True, slots=True)
class _Held:
    """A container that does not do its work."""

    container: str
    reason: str
    what: str
    pattern: str = ""
    until: float | None = None


def _waits(container: Document) -> _Held | None:
    """A container that cannot be started."""
    waiting = (container.get("state") or {}).get("waiting")
    reason = str((waiting or {}).get("reason", ""))
    if waiting is None or reason in _STARTING or reason == _CRASH_LOOP:
        return None
    return _cannot_start(container, reason, str(waiting.get("message") or ""))


def _ends(container: Document, now: float) -> _Held | None:
    """A container that ends soon after each start, and has not outlasted that yet."""
    state = container.get("state") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if ended is None or ended.get("reason") == _STOPPED_WITH_NODE or int(container.get("restartCount") or 0) <= _ONCE:
        return None
    ran = _time(ended, "finishedAt") - _time(ended, "startedAt")
    until = _time(state["running"], "startedAt") + _LONGER * ran + _STEADY if state.get("running") else None
    if ran >= _LONG_RUN or (until is not None and until <= now):
        return None
    if ended.get("reason") in _NOT_STARTED:
        return _cannot_start(container, "RunContainerError", str(ended.get("message") or ""))
    words = words_of(ended)
    # The line of a log may begin with a time; the exit code is what counts of all numbers.
    pattern = f"{ended.get('exitCode')} {_NUMBER.sub('#', words)}"
    return _Held(container["name"], _CRASH_LOOP, f"ends again and again: {words}", pattern, until)


def _idles(container: Document, pod: Document, now: float) -> _Held | None:
    """A container that runs and runs, and does not become ready."""
    if not 0 < _due(container) <= now:
        return None
    specs = (pod.get("spec") or {}).get("containers") or ()
    probe = next((spec.get("readinessProbe") or {} for spec in specs if spec["name"] == container["name"]), {})
    port = (probe.get("tcpSocket") or {}).get("port")
    why = f": nothing listens on port {port} of the pod's address" if port else ": its readiness probe fails"
    return _Held(container["name"], _UNREADY, f"is not ready {_PATIENCE / 60:.0f} minutes after its start{why}")


def _due(container: Document) -> float:
    """When a container that is not ready should be; 0 if it is, or does not run."""
    running = (container.get("state") or {}).get("running")
    return 0.0 if container.get("ready") or not running else _time(running, "startedAt") + _PATIENCE


def _cannot_start(container: Document, reason: str, message: str) -> _Held:
    return _Held(container["name"], reason, f"cannot start: {reason}: {message}"[:MAX_WORDS].rstrip(": "))


def _time(state: Document, key: str) -> float:
    return seconds_of(str(state.get(key, "")))
