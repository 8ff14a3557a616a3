"""What a Deployment needs next, against the rules of rolling updates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.cluster.kubelet.plan import (
    DeploymentRollout,
    PodFact,
    PodPlan,
    deployment_status,
    plan,
    rollout_of,
    template_hash,
)

NOW = "2026-01-01T00:00:00Z"


def pod(
    name: str, *, current: bool = True, ready: bool = True, created: float = 0.0, stopping: bool = False
) -> PodFact:
    return PodFact(name, current, ready, created, stopping)


def test_missing_pods_are_created_at_once():
    assert plan(DeploymentRollout(3, 1, 0), []) == PodPlan(create=3)


def test_nothing_to_do_when_all_are_there():
    assert plan(DeploymentRollout(2, 1, 0), [pod("a"), pod("b", ready=False)]) == PodPlan()


def test_surplus_goes_unready_first_then_youngest():
    pods = [pod("old", created=1), pod("young", created=9), pod("sick", ready=False, created=0)]
    assert plan(DeploymentRollout(2, 1, 0), pods) == PodPlan(delete=("sick",))
    assert plan(DeploymentRollout(1, 1, 0), pods) == PodPlan(delete=("sick", "young"))


def test_scale_to_zero_deletes_everything():
    assert set(plan(DeploymentRollout(0, 0, 1), [pod("a"), pod("b")]).delete) == {"a", "b"}


def test_old_pods_go_when_scaled_to_zero_during_a_change():
    assert plan(DeploymentRollout(0, 0, 1), [pod("a", current=False)]).delete == ("a",)


def test_a_change_surges_before_it_deletes():
    pods = [pod("a", current=False), pod("b", current=False)]
    assert plan(DeploymentRollout(2, 1, 0), pods) == PodPlan(create=1)


def test_a_ready_new_pod_frees_an_old_one():
    pods = [pod("a", current=False), pod("b", current=False), pod("n")]
    step = plan(DeploymentRollout(2, 1, 0), pods)
    assert len(step.delete) == 1
    assert step.create == 0


def test_an_unready_new_pod_frees_none():
    pods = [pod("a", current=False), pod("b", current=False), pod("n", ready=False)]
    assert plan(DeploymentRollout(2, 1, 0), pods) == PodPlan()


def test_broken_old_pods_go_first():
    pods = [pod("a", current=False), pod("sick", current=False, ready=False), pod("n")]
    assert plan(DeploymentRollout(2, 1, 0), pods).delete == ("sick",)


def test_broken_template_can_be_repaired_although_nothing_is_ready():
    pods = [pod("a", current=False, ready=False), pod("b", current=False, ready=False)]
    step = plan(DeploymentRollout(2, 1, 0), pods)
    assert step.create == 1


def test_stopping_pods_do_not_count():
    assert plan(DeploymentRollout(2, 1, 0), [pod("a"), pod("b", stopping=True)]) == PodPlan(create=1)


def test_paused_changes_nothing_but_still_scales():
    rollout = DeploymentRollout(2, 1, 0, paused=True)
    assert plan(rollout, [pod("a", current=False), pod("b", current=False)]) == PodPlan()


def test_recreate_waits_for_the_old_ones_to_end():
    rollout = DeploymentRollout(2, 0, 1, recreate=True)
    old = [pod("a", current=False), pod("b", current=False)]
    assert set(plan(rollout, old).delete) == {"a", "b"}
    assert plan(rollout, [replace(each, stopping=True) for each in old]) == PodPlan()
    assert plan(rollout, []) == PodPlan(create=2)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"replicas": 2, "strategy": {"rollingUpdate": {"maxSurge": "75%", "maxUnavailable": "15%"}}}, (2, 2, 0)),
        ({"replicas": 4}, (4, 1, 1)),
        ({}, (1, 1, 0)),
        ({"replicas": 1, "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "25%"}}}, (1, 0, 1)),
        ({"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}, (10, 3, 2)),
        ({"replicas": 0}, (0, 0, 1)),
    ],
)
def test_percentages(spec: dict[str, object], expected: tuple[int, int, int]):
    rollout = rollout_of(spec)
    assert (rollout.replicas, rollout.surge, rollout.unavailable) == expected


def test_template_hash_ignores_order_and_notices_changes():
    assert template_hash({"a": 1, "b": 2}) == template_hash({"b": 2, "a": 1})
    assert template_hash({"a": 1}) != template_hash({"a": 2})


ROLLOUTS = st.builds(
    DeploymentRollout,
    replicas=st.integers(0, 6),
    surge=st.integers(0, 3),
    unavailable=st.integers(0, 3),
).filter(lambda r: r.surge or r.unavailable)


@given(rollout=ROLLOUTS, old_count=st.integers(0, 6), data=st.data())
def test_every_change_ends_within_its_bounds(rollout: DeploymentRollout, old_count: int, data: st.DataObject):
    """Carried out step by step, with pods becoming ready whenever, a change keeps its bounds and comes to its end."""
    pods = {f"old{i}": pod(f"old{i}", current=False) for i in range(min(old_count, rollout.replicas))}
    made = 0
    for _ in range(200):
        step = plan(rollout, list(pods.values()))
        before_available = sum(p.ready for p in pods.values())
        for name in step.delete:
            del pods[name]
        for _ in range(step.create):
            made += 1
            pods[f"new{made}"] = pod(f"new{made}", ready=False, created=made)
        assert len(pods) <= rollout.replicas + rollout.surge
        least = min(before_available, rollout.replicas - rollout.unavailable)
        assert sum(p.ready for p in pods.values()) >= least
        unready = sorted(name for name, p in pods.items() if not p.ready)
        if not unready and step == PodPlan():
            break
        if unready:
            name = data.draw(st.sampled_from(unready))
            pods[name] = replace(pods[name], ready=True)
    assert len(pods) == rollout.replicas
    assert all(p.current and p.ready for p in pods.values())


def test_status_counts():
    pods = [pod("a"), pod("b", ready=False), pod("c", current=False), pod("d", stopping=True)]
    status = deployment_status(DeploymentRollout(2, 1, 0), pods, generation=7, now=NOW)
    counts = {key: value for key, value in status.items() if key != "conditions"}
    assert counts == {
        "observedGeneration": 7,
        "replicas": 3,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 0,
    }
    assert {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]} == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "ReplicaSetUpdated"),
    }
