"""The status of a Pod from the states of its containers. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not running: not started yet, or backing off."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A process runs since `started`."""

    started: float
    pid: int


@dataclass(frozen=True, slots=True)
class Terminated:
    """A process ended. A negative `code` is minus the signal's number."""

    code: int
    started: float
    finished: float
    message: str = ""
    why: str = ""
    """A reason better than what the exit code says."""

    @property
    def exit_code(self) -> int:
        """As shells and containers count: 128 + signal."""
        return 128 - self.code if self.code < 0 else self.code

    @property
    def reason(self) -> str:
        """`Completed` or `Error`, unless `why` says better."""
        return self.why or ("Completed" if self.code == 0 else "Error")


State: TypeAlias = Waiting | Running | Terminated


@dataclass(slots=True)
class ContainerFact:
    """One container of a pod, now."""

    name: str
    image: str
    state: State = field(default_factory=lambda: Waiting("ContainerCreating"))
    last: Terminated | None = None
    restarts: int = 0
    ready: bool = False


def timestamp(seconds: float) -> str:
    """As Kubernetes writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """The reverse of `timestamp`."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def phase_of(containers: Sequence[ContainerFact], restart: str) -> str:
    """The pod's phase. `restart` is its restartPolicy."""
    states = [container.state for container in containers]
    if states and restart != "Always" and all(isinstance(state, Terminated) for state in states):
        succeeded = all(isinstance(state, Terminated) and state.code == 0 for state in states)
        if succeeded:
            return "Succeeded"
        if restart == "Never":
            return "Failed"
    started = [container for container in containers if not isinstance(container.state, Waiting) or container.restarts]
    return "Running" if started else "Pending"


def pod_status(
    containers: Sequence[ContainerFact],
    *,
    ip: str,
    host_ip: str,
    started: float,
    now: float,
    restart: str = "Always",
    before: Mapping[str, Any] | None = None,
    stopping: bool = False,
) -> dict[str, Any]:
    """The whole status. Conditions that did not change keep their time from `before`."""
    unready = [container.name for container in containers if not container.ready]
    phase = phase_of(containers, restart)
    done = phase == "Succeeded"
    ready = not unready and not done and not stopping
    reason = "PodCompleted" if done else "" if ready else "ContainersNotReady"
    message = f"containers with unready status: [{' '.join(unready)}]" if unready and not done else ""
    conditions = [
        _condition("PodScheduled", True, "", "", now),
        _condition("Initialized", True, "", "", now),
        _condition("ContainersReady", ready, reason, message, now),
        _condition("Ready", ready, reason, message, now),
    ]
    return {
        "phase": phase,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "hostIP": host_ip,
        "startTime": timestamp(started),
        "qosClass": "Burstable",
        "conditions": keep_times(conditions, (before or {}).get("conditions") or ()),
        "containerStatuses": [_container(container) for container in containers],
    }


def _condition(kind: str, value: bool, reason: str, message: str, now: float) -> dict[str, Any]:
    condition: dict[str, Any] = {
        "type": kind,
        "status": "True" if value else "False",
        "lastTransitionTime": timestamp(now),
    }
    if reason:
        condition |= {"reason": reason, "message": message}
    return condition


def keep_times(conditions: list[dict[str, Any]], before: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conditions, with the transition times of those whose status is as before."""
    old = {condition["type"]: condition for condition in before}
    kept = copy.deepcopy(conditions)
    for condition in kept:
        previous = old.get(condition["type"])
        if previous and previous.get("status") == condition["status"]:
            for key in ("lastTransitionTime", "lastUpdateTime"):
                if key in condition and key in previous:
                    condition[key] = previous[key]
    return kept


def _container(fact: ContainerFact) -> dict[str, Any]:
    running = isinstance(fact.state, Running)
    status: dict[str, Any] = {
        "name": fact.name,
        "image": fact.image,
        "imageID": "",
        "ready": fact.ready,
        "started": running,
        "restartCount": fact.restarts,
        "state": _state(fact.state),
        "lastState": _state(fact.last) if fact.last else {},
    }
    if isinstance(fact.state, Running):
        status["containerID"] = f"process://{fact.state.pid}"
    return status


def _state(state: State) -> dict[str, Any]:
    if isinstance(state, Waiting):
        return {"waiting": {"reason": state.reason} | ({"message": state.message} if state.message else {})}
    if isinstance(state, Running):
        return {"running": {"startedAt": timestamp(state.started)}}
    terminated: dict[str, Any] = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": timestamp(state.started),
        "finishedAt": timestamp(state.finished),
    }
    if state.code < 0:
        terminated["signal"] = -state.code
    if state.message:
        terminated["message"] = state.message
    return {"terminated": terminated}
