"""What a Deployment needs next: how many pods to create, which to delete. Decides only; `deployments.py` acts.

Rules are those of the Deployment and ReplicaSet controllers: during a change at most `maxSurge` pods more than
`replicas` exist and at most `maxUnavailable` fewer are available; broken pods of an older template go first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

HASH_LABEL = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class PodFact:
    """A pod of the Deployment, as far as planning goes."""

    name: str
    current: bool
    """Made from the Deployment's present template."""
    ready: bool
    created: float
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class DeploymentRollout:
    """A Deployment's wishes. `surge` and `unavailable` are counts of pods."""

    replicas: int
    surge: int
    unavailable: int
    recreate: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True)
class PodPlan:
    """Pods to create from the present template, and names of pods to delete."""

    create: int = 0
    delete: tuple[str, ...] = ()


def template_hash(template: Any) -> str:
    """Ten characters that change when the pod template does."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def rollout_of(spec: dict[str, Any]) -> DeploymentRollout:
    """Read a Deployment's spec. Percentages of replicas: surge is rounded up, unavailable down, and not both are 0."""
    replicas = int(spec.get("replicas", 1))
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    surge = _count(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _count(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return DeploymentRollout(
        replicas, surge, unavailable, strategy.get("type") == "Recreate", bool(spec.get("paused", False))
    )


def _count(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, str) and value.endswith("%"):
        share = replicas * int(value[:-1]) / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value)


def plan(rollout: DeploymentRollout, pods: Iterable[PodFact]) -> PodPlan:
    """The next step. Pods that are stopping are out of the count, save that `Recreate` waits for them."""
    everything = list(pods)
    living = [pod for pod in everything if not pod.stopping]
    current = [pod for pod in living if pod.current]
    old = [pod for pod in living if not pod.current]
    if len(current) > rollout.replicas:
        return PodPlan(delete=_names(_least_useful(current)[: len(current) - rollout.replicas]))
    if rollout.paused and old:
        return PodPlan()
    if rollout.recreate:
        return _recreate(rollout, everything, current, old)
    missing = rollout.replicas - len(current)
    room = rollout.replicas + rollout.surge - len(living)
    return PodPlan(max(0, min(missing, room if old else missing)), _old_to_delete(rollout, living, current, old))


def _recreate(
    rollout: DeploymentRollout, everything: list[PodFact], current: list[PodFact], old: list[PodFact]
) -> PodPlan:
    if old:
        return PodPlan(delete=_names(old))
    if any(not pod.current for pod in everything):
        return PodPlan()
    return PodPlan(create=rollout.replicas - len(current))


def _old_to_delete(
    rollout: DeploymentRollout, living: list[PodFact], current: list[PodFact], old: list[PodFact]
) -> tuple[str, ...]:
    if not old:
        return ()
    least = rollout.replicas - rollout.unavailable
    # Current pods that are not ready yet shall become so: they do not make room for deleting.
    spare = len(living) - least - sum(not pod.ready for pod in current)
    broken = [pod for pod in _least_useful(old) if not pod.ready][: max(0, spare)]
    available = sum(pod.ready for pod in living)
    healthy = [pod for pod in _least_useful(old) if pod.ready][: max(0, available - least)]
    return _names([*broken, *healthy])


def _least_useful(pods: Sequence[PodFact]) -> list[PodFact]:
    """Not ready before ready, young before old."""
    return sorted(pods, key=lambda pod: (pod.ready, -pod.created, pod.name))


def _names(pods: Iterable[PodFact]) -> tuple[str, ...]:
    return tuple(pod.name for pod in pods)


def deployment_status(rollout: DeploymentRollout, pods: Iterable[PodFact], generation: int, now: str) -> dict[str, Any]:
    """The status of the Deployment; `now` stamps conditions that change (the caller keeps older stamps)."""
    living = [pod for pod in pods if not pod.stopping]
    ready = sum(pod.ready for pod in living)
    updated = sum(pod.current for pod in living)
    enough = ready >= rollout.replicas - rollout.unavailable
    done = updated == len(living) == ready == rollout.replicas
    available = _condition(
        "Available", enough, "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable", now
    )
    progressing = _condition("Progressing", True, "NewReplicaSetAvailable" if done else "ReplicaSetUpdated", now)
    return {
        "observedGeneration": generation,
        "replicas": len(living),
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, rollout.replicas - ready),
        "conditions": [available, progressing],
    }


def _condition(kind: str, value: bool, reason: str, now: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True" if value else "False",
        "reason": reason,
        "lastTransitionTime": now,
        "lastUpdateTime": now,
    }
