"""What keeps pods of a runtime from being ready, read from their status."""

import pytest

from shoal.controller.troubles import Unusable, standing_of, trouble_of, uncreated_pods

IMAGE = "image 'x' is not on this machine"
NOW = 1767225700.0
"""2026-01-01T00:01:40Z."""
SINCE = {"startedAt": "2026-01-01T00:01:35Z"}
LINE = "2026-01-0{} 10:00:01 ERROR no port, pid {}"
PULLING = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}


def container(name="server", *, ready=False, restarts=0, last=None, **state):
    return {
        "name": name,
        "ready": ready,
        "restartCount": restarts,
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }


def ended(code=1, message="ValueError: bad", *, seconds=3, reason="Error"):
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z",
    }


def pod(*containers, name="p", ready=False, template="t", created="2026-01-01T00:00:00Z", **fields):
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "labels": {"pod-template-hash": template}, "creationTimestamp": created},
        "status": {"phase": "Pending", "conditions": conditions, "containerStatuses": list(containers)} | fields,
    }


def waiting(reason, message=""):
    return container(waiting={"reason": reason, "message": message})


def looping(restarts=2, **fields):
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": f"next start in {restarts} s"}}
    return container(restarts=restarts, last=ended(**fields), **state)


@pytest.mark.parametrize(
    "reason", ["ErrImageNeverPull", "CreateContainerConfigError", "RunContainerError", "PortInUse"]
)
def test_a_container_that_cannot_start_is_named_with_reason_and_words(reason):
    found = trouble_of("r", now=NOW, pod=pod(container("other", ready=True, running={}), waiting(reason, IMAGE)))
    assert found.reason == reason
    assert found.message == f"container server of runtime r cannot start: {reason}: {IMAGE}"


def test_a_container_that_ends_after_each_start_is_told_by_its_last_words():
    found = trouble_of("r", now=NOW, pod=pod(looping(message="INFO: up\nValueError: bad\n")))
    assert found.reason == "CrashLoopBackOff"
    assert found.message == "container server of runtime r ends again and again: exit code 1: ValueError: bad"


@pytest.mark.parametrize(
    "status",
    [
        pod(waiting("ContainerCreating")),
        pod(waiting("PodInitializing")),
        pod(),
        pod(container(running={})),
        pod(looping(restarts=1)),  # it may be a model's doing, which is quarantined then
        pod(looping(restarts=7, seconds=700)),  # it ran well for long
        pod(container(restarts=5, running={}, last=ended(137, "stopped", reason="NodeShutdown"))),
        pod(container(restarts=5, running={"startedAt": "2026-01-01T00:01:20Z"}, last=ended())),  # it outlasts that
    ],
)
def test_starts_and_single_ends_are_no_trouble(status):
    assert trouble_of("r", now=NOW, pod=status) is None


def test_a_container_that_runs_between_two_ends_is_still_in_trouble():
    at_rest, running = looping(), container(restarts=2, last=ended(), running=SINCE, ready=True)
    found = standing_of("r", now=NOW, pods=[pod(running, ready=True)])
    assert (found.total, found.ready, found.until) == (1, 0, NOW - 5 + 3 * 1.5 + 10)
    after = standing_of("r", now=found.until, pods=[pod(running, ready=True)], before=found.trouble)
    assert (after.ready, after.trouble, after.until) == (1, None, None)
    assert trouble_of("r", now=NOW, pod=pod(running)) == trouble_of("r", now=NOW, pod=pod(at_rest))


def test_a_pod_without_a_node_a_container_before_the_others_and_a_quota():
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no memory"}]
    found = trouble_of("r", now=NOW, pod=pod(conditions=conditions))
    assert (found.reason, found.message) == ("Unschedulable", "a pod of runtime r finds no node: no memory")
    held = pod(waiting("PodInitializing"), initContainerStatuses=[container("first", **PULLING)])
    assert (
        trouble_of("r", now=NOW, pod=held).message
        == "container first of runtime r cannot start: ErrImagePull: not found"
    )
    failed = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]
    assert uncreated_pods("r", {"status": {"conditions": failed}}).message.endswith("cannot be created: exceeded quota")
    assert uncreated_pods("r", None) is None


def test_a_program_that_cannot_be_run_reads_the_same_while_it_waits_for_the_next_try():
    words = 'exec: "nope": not found'
    waits = trouble_of("r", now=NOW, pod=pod(waiting("RunContainerError", words)))
    loops = trouble_of("r", now=NOW, pod=pod(looping(code=128, message=words, reason="StartError")))
    assert waits == loops


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (looping(2, message=LINE.format(1, 4711)), looping(9, message=LINE.format(2, 5))),
        (container(**PULLING), waiting("ImagePullBackOff", "Back-off pulling image")),
    ],
)
def test_the_same_cause_keeps_its_words(first, second):
    before = standing_of("r", now=NOW, pods=[pod(first)]).trouble
    assert standing_of("r", now=NOW, pods=[pod(second)], before=before).trouble is before
    assert standing_of("r", now=NOW, pods=[pod(second, template="changed")], before=before).trouble != before
    assert standing_of("r", now=NOW, pods=[pod(second)]).trouble != before


@pytest.mark.parametrize("fields", [{"code": 2}, {"message": "KeyError: other"}])
def test_another_end_is_another_cause(fields):
    before = standing_of("r", now=NOW, pods=[pod(looping())]).trouble
    assert standing_of("r", now=NOW, pods=[pod(looping(**fields))], before=before).trouble.message != before.message


def test_pods_are_counted_and_the_newest_pod_is_told_of():
    good, bad = pod(ready=True, name="a"), pod(waiting("ErrImagePull", "old"), name="b")
    newer = pod(waiting("ErrImagePull", "new"), name="c", created="2026-01-02T00:00:00Z")
    leaving, over = pod(name="d"), pod(name="e", phase="Failed")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    found = standing_of("r", now=NOW, pods=[good, bad, newer, leaving, over])
    assert (found.total, found.ready) == (3, 1)
    assert found.trouble.message.endswith("ErrImagePull: new")
    assert standing_of(
        "r", now=NOW, pods=[good, bad, newer], before=trouble_of("r", now=NOW, pod=bad)
    ).trouble.message.endswith("ErrImagePull: old")


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        (
            {"tcpSocket": {"port": 8001}},
            "is not ready 5 minutes after its start: nothing listens on port 8001 of the pod's address",
        ),
        ({}, "is not ready 5 minutes after its start: its readiness probe fails"),
    ],
)
def test_a_container_that_runs_and_never_becomes_ready_is_told_when_its_time_is_over(probe, said):
    slow = pod(container(running=SINCE), container("other", running=SINCE, ready=True))
    slow["spec"] = {"containers": [{"name": "server", "readinessProbe": probe}]}
    early = standing_of("r", now=NOW, pods=[slow])
    assert (early.trouble, early.until) == (None, NOW - 5 + 300)
    late = standing_of("r", now=early.until, pods=[slow])
    assert late.trouble.reason == "ContainersNotReady"
    assert late.trouble.message == f"container server of runtime r {said}"
    assert late.until is None


def test_a_ready_pod_that_the_mesh_cannot_use_is_not_counted_and_told_after_half_a_minute():
    good, bad = pod(ready=True, name="a"), pod(ready=True, name="b")
    unusable = {"b": Unusable("its adapter does not answer at 127.0.0.1:8085", NOW)}
    early = standing_of("r", now=NOW + 29, pods=[good, bad], unusable=unusable)
    assert (early.total, early.ready, early.trouble, early.until) == (2, 1, None, NOW + 30)
    late = standing_of("r", now=NOW + 30, pods=[good, bad], unusable=unusable)
    assert (late.ready, late.trouble.reason, late.until) == (1, "PodUnusable", None)
    assert late.trouble.message == (
        "a pod of runtime r is ready, but the mesh cannot use it: its adapter does not answer at 127.0.0.1:8085"
    )


def test_a_pod_that_is_not_ready_is_no_trouble_of_the_mesh():
    unusable = {"p": Unusable("its adapter does not answer at 127.0.0.1:8085", NOW - 100)}
    assert standing_of("r", now=NOW, pods=[pod()], unusable=unusable).trouble is None
