"""`ShoalClient` against a whole embedded cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollout_cluster import REQUEST, service
from shoal.client import NotFound, Refused, ShoalClient, ShoalError, TimedOut, Unreachable
from shoal.resources.rollout import ROLLOUT_BY

pytestmark = pytest.mark.server
APPROVAL = {"strategy": "canary", "steps": [{"setWeight": 50}, {"pause": {}}]}


@pytest.fixture
def client(running: Path):
    with ShoalClient.from_state_dir(running) as found:
        yield found


def serving(client: ShoalClient, name: str, rollout=None) -> str:
    """A new InferenceService that serves version 0."""
    manifest = service(name, 0, rollout)
    applied = client.apply(manifest)
    client.wait_ready(name, applied["metadata"]["generation"], timeout=60)
    return client.revision_of(manifest)


def paused(client: ShoalClient, name: str, version: int, **annotations: str):
    """The rollout to a version, once it waits for approval."""
    manifest = service(name, version, APPROVAL, **annotations)
    client.apply(manifest)
    rollout = client.rollout_to(name, client.revision_of(manifest))
    assert rollout is not None
    return next(report for report in client.follow(name, rollout.id, timeout=60) if report.phase == "Paused")


def test_a_model_is_declared_asked_and_deleted(client: ShoalClient):
    revision = serving(client, "plain")
    item = client.isvc("plain")
    assert item["status"]["modelRevisionName"] == revision
    answer = client.infer("plain", REQUEST)
    assert answer["outputs"][0]["data"] == [1]
    assert client.rollout_to("plain", revision) is None
    with pytest.raises(NotFound):
        client.rollout("plain")
    assert client.delete("plain")
    assert not client.delete("plain")
    assert client.isvc("plain") is None


def test_a_rollout_is_followed_steered_and_undone(client: ShoalClient):
    first = serving(client, "fraud", APPROVAL)
    waiting = paused(client, "fraud", 1, **{ROLLOUT_BY: "run 7"})
    second = waiting.target
    assert (waiting.active, waiting.weight, waiting.by, waiting.step_words) == (first, 50.0, "run 7", "2/2")
    assert waiting.live
    assert [report.id for report in client.rollouts() if report.name == "fraud"] == [waiting.id]

    with pytest.raises(Refused, match="cannot retry; possible now: resume, promote, abort"):
        client.steer("fraud", "retry")
    with pytest.raises(Refused, match="not fraud-9"):
        client.steer("fraud", "promote", rollout="fraud-9")
    promoted = client.steer("fraud", "promote", rollout=waiting.id, by="me", reason="looks good")
    *_, last = client.follow("fraud", waiting.id, timeout=60)
    assert promoted.id == last.id
    assert last.succeeded
    assert any("promoted by me: looks good" in entry.what for entry in last.timeline)
    assert last.retained == [first]

    undone = client.undo("fraud", by="me")
    *_, last = client.follow("fraud", undone.id, timeout=60)
    assert (last.succeeded, last.target, last.by) == (True, first, "me")
    assert client.isvc("fraud")["spec"]["predictor"] == service("fraud", 0)["spec"]["predictor"]
    again = client.undo("fraud", to=waiting.id)
    assert again.target == second
    with pytest.raises(NotFound, match="is not remembered; remembered: "):
        client.undo("fraud", to="fraud__isvc-0000000000")


def test_an_aborted_rollout_leaves_the_active_revision_and_can_be_undone(client: ShoalClient):
    first = serving(client, "abort", APPROVAL)
    waiting = paused(client, "abort", 1)
    client.steer("abort", "abort", reason="no")
    *_, last = client.follow("abort", waiting.id, timeout=30)
    assert (last.phase, last.reason, last.weight) == ("RolledBack", "aborted: no", 0)
    with pytest.raises(TimedOut, match=r"RolledBack: aborted: no"):
        client.wait_ready("abort", timeout=1)
    client.undo("abort")
    client.wait_ready("abort", timeout=30)
    assert client.isvc("abort")["status"]["modelRevisionName"] == first


def test_a_rollout_is_begun_once_adopted_by_whoever_comes_next_and_tried_again(client: ShoalClient):
    assert client.roll_out(service("twice", 0, APPROVAL), by="run 1") is None
    assert client.newest_rollout("twice") is None, "the first revision replaces nothing, and serves"
    manifest = service("twice", 1, APPROVAL)
    begun = client.roll_out(manifest, by="run 2", reason="new data")
    assert begun is not None
    assert begun.by == "run 2: new data"
    adopted = client.roll_out(manifest, by="run 3")
    assert adopted is not None
    assert (adopted.id, adopted.by) == (begun.id, begun.by)
    with pytest.raises(Refused, match=f"rollout {begun.id} to this version is under way, started by run 2: new data"):
        client.roll_out(manifest, by="run 3", adopt=False)

    client.steer("twice", "abort", begun.id)
    again = client.roll_out(manifest, by="run 4")
    assert again is not None
    assert (again.id, again.live) == (begun.id, True)
    assert "retried by run 4: rolled out again" in [entry.what for entry in again.timeline]
    with pytest.raises(Refused, match=r"spec\.predictor"):
        client.roll_out({"metadata": {"name": "twice"}, "spec": {}}, by="run 5")


def test_a_superseded_rollout_is_followed_to_its_end(client: ShoalClient):
    serving(client, "newer", APPROVAL)
    waiting = paused(client, "newer", 1)
    newer = paused(client, "newer", 2)
    assert newer.id != waiting.id
    (last,) = client.follow("newer", waiting.id, timeout=30)
    assert (last.id, last.phase, last.live) == (waiting.id, "Superseded", False)
    with pytest.raises(NotFound, match="has no rollout 'nonsense'; the newest is"):
        list(client.follow("newer", "nonsense", timeout=5))
    with pytest.raises(TimedOut, match="is still Paused after 0 s"):
        list(client.follow("newer", newer.id, timeout=0))


def test_a_refused_change_is_told(client: ShoalClient):
    serving(client, "one", APPROVAL)
    refusing = APPROVAL | {"onConflict": "refuse"}
    client.apply(service("one", 1, refusing))
    assert client.rollout_to("one", client.revision_of(service("one", 1))) is not None
    client.apply(service("one", 2, refusing))
    with pytest.raises(Refused, match="lets no other begin"):
        client.rollout_to("one", client.revision_of(service("one", 2)))


def test_wrong_manifests_are_refused_with_the_field(client: ShoalClient):
    wrong = service("wrong", 0, {"strategy": "canary", "steps": [{"setWeight": 500}]})
    with pytest.raises(Refused, match=r"spec\.rollout\.steps\[0\]\.setWeight: must be a number from 0 to 100"):
        client.apply(wrong)
    with pytest.raises(Refused, match=r"spec\.rollout\.steps\[0\]\.setWeight"):
        client.revision_of(wrong)
    with pytest.raises(Refused, match=r"metadata\.name: is required"):
        client.apply({"metadata": {}, "spec": {}})
    with pytest.raises(Refused, match=r"unknown field"):
        client.apply(service("wrong", 0, {"stratgy": "canary"}))
    with pytest.raises(Refused, match="'stop' is no verb of a rollout; use one of pause, "):
        client.steer("wrong", "stop")  # type: ignore[arg-type]


def test_what_is_not_there_is_named(client: ShoalClient):
    with pytest.raises(NotFound, match="no InferenceService 'absent'"):
        client.wait_ready("absent", timeout=1)
    with pytest.raises(NotFound, match="absent"):
        client.rollout("absent")
    with pytest.raises(NotFound):
        client.infer("absent", REQUEST)
    with pytest.raises(ShoalError):
        client.undo("absent")


def test_a_kubeconfig_leads_to_the_same_cluster(running: Path, client: ShoalClient):
    with ShoalClient.from_kubeconfig(running / "kubeconfig") as other:
        assert {report.name for report in other.rollouts()} == {report.name for report in client.rollouts()}
        assert other.isvc("absent") is None


def test_a_namespace_without_a_mesh_is_told_apart_from_a_missing_rollout(running: Path):
    with (
        ShoalClient.from_state_dir(running, namespace="default") as other,
        pytest.raises(Unreachable, match="shoal-mesh"),
    ):
        other.rollout("fraud")
