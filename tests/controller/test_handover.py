"""What the mesh is told, in which order, and who is said to have asked for it."""

import pytest

from shoal.controller.changed_by import started_by
from shoal.controller.handover import hand_over
from shoal.controller.plans import entry_plan
from shoal.controller.reading import read
from shoal.controller.store import DeclarationStore
from shoal.core.rollout.plan import Pause, SetWeight
from shoal.core.rollout.record import Phase
from shoal.core.types import ModelState
from shoal.resources.rollout import ROLLOUT_BY
from support.controller import RecordingMesh, endpoint_view, model_view, rollout_status
from support.resources import isvc, model


def reading(path="m.joblib", *, canary=None, percent=20, by="", rollout=None):
    document = isvc(predictor=model(storage={"key": "k", "path": path}))
    document["metadata"] |= {"generation": 1}
    if by:
        document["metadata"]["annotations"][ROLLOUT_BY] = by
    if rollout is not None:
        document["spec"]["rollout"] = rollout
    if canary is not None:
        predictor = {"name": "challenger", "model": {"storage": {"path": canary}}}
        document["spec"]["canary"] = [{"predictor": predictor, "trafficPercent": percent}]
    return read(document, DeclarationStore())


def revision(path):
    return reading(path).stable.declaration.revision


def serving(path, target=None):
    active = model_view(revision(path), ModelState.LOADED, copies=1)
    return endpoint_view(active, model_view(revision(target), ModelState.LOADED, copies=1) if target else None)


@pytest.fixture
def mesh():
    return RecordingMesh()


async def test_the_plan_and_the_predictor_go_with_the_declaration(mesh):
    found = reading(rollout={"strategy": "blueGreen"}, by="run 7")
    assert await hand_over(mesh, found, None)
    declared = mesh.declarations["m"]
    assert declared.plan.steps == (Pause(None),)
    assert declared.by == "run 7"
    assert declared.predictor == '{"model":{"modelFormat":{"name":"sklearn"},"storage":{"key":"k","path":"m.joblib"}}}'
    assert not declared.stepwise
    mesh.calls.clear()
    assert await hand_over(mesh, found, found)
    assert mesh.calls == []


async def test_a_new_isvc_with_a_canary_has_its_stable_model_first(mesh):
    found = reading("a", canary="b")
    assert await hand_over(mesh, found, None)
    assert mesh.calls == ["declare m", "declare m"]
    declared = mesh.declarations["m"]
    assert (declared.revision, declared.stepwise) == (revision("b"), True)
    assert declared.plan == entry_plan(None, 20)
    assert declared.by == "spec.canary/challenger"
    assert found.declared.revision == revision("b")


async def test_a_canary_waits_until_the_model_below_it_serves(mesh):
    mesh.show("m", serving("old"))
    found = reading("a", canary="b")
    assert not await hand_over(mesh, found, None)
    assert mesh.declarations["m"].revision == revision("a")
    assert mesh.declarations["m"].plan.steps == ()
    mesh.show("m", serving("old", target="a"))
    mesh.calls.clear()
    assert not await hand_over(mesh, found, None)
    assert mesh.calls == []
    mesh.show("m", serving("a"))
    assert await hand_over(mesh, found, None)
    assert mesh.declarations["m"].revision == revision("b")


async def test_another_share_begins_another_rollout(mesh):
    mesh.show("m", serving("a", target="b"))
    mesh.rollouts["m"] = _running("b", percent=20)
    before = reading("a", canary="b", percent=20)
    found = reading("a", canary="b", percent=50)
    assert await hand_over(mesh, found, before)
    assert mesh.calls == ["declare m", "declare m"]
    assert mesh.declarations["m"].plan.steps == (SetWeight(500), Pause(None))


async def test_a_canary_promoted_by_hand_is_left_alone(mesh):
    mesh.show("m", serving("b"))
    mesh.rollouts["m"] = rollout_status(Phase.SUCCEEDED, active=revision("a"), target=revision("b"))
    assert await hand_over(mesh, reading("a", canary="b"), None)
    assert [mesh.declarations["m"].revision, *mesh.calls] == [revision("b"), "declare m"]


async def test_a_canary_moved_to_the_predictor_is_promoted(mesh):
    mesh.show("m", serving("a", target="b"))
    mesh.rollouts["m"] = _running("b", percent=20)
    assert await hand_over(mesh, reading("b"), reading("a", canary="b"))
    assert mesh.calls == ["promote m-1: its model was moved to spec.predictor", "declare m"]


async def test_removing_an_entry_declares_what_serves(mesh):
    mesh.show("m", serving("a", target="b"))
    mesh.rollouts["m"] = _running("b", percent=20)
    assert await hand_over(mesh, reading("a"), reading("a", canary="b"))
    assert mesh.calls == ["declare m"]
    assert mesh.declarations["m"].revision == revision("a")


async def test_a_rollout_by_steps_is_not_promoted_because_its_manifest_changed(mesh):
    mesh.show("m", serving("a", target="b"))
    steps = {"strategy": "canary", "steps": [{"setWeight": 20}, {"pause": {}}]}
    mesh.rollouts["m"] = _running("b", percent=20, by="someone")
    changed = {"strategy": "canary", "steps": [*steps["steps"], {"setWeight": 50}, {"pause": {}}]}
    assert await hand_over(mesh, reading("b", rollout=changed), reading("b", rollout=steps))
    assert mesh.calls == ["declare m"]


async def test_nobody_can_pretend_to_be_an_entry(mesh):
    await hand_over(mesh, reading("b", by="spec.canary/x"), None)
    assert mesh.declarations["m"].by == "x"


def _running(target, *, percent, by="spec.canary/challenger"):
    return rollout_status(
        paused=True, active=revision("a"), target=revision(target), plan=entry_plan(None, percent), by=by
    )


def _entry(manager, time, *, annotates=False, **more):
    fields = {"f:metadata": {"f:annotations": {f"f:{ROLLOUT_BY}": {}}}} if annotates else {}
    return {"manager": manager, "time": time, "fieldsV1": fields, **more}


@pytest.mark.parametrize(
    ("annotation", "managed", "who"),
    [
        ("", [], ""),
        ("run 1", [], "run 1"),
        ("run 1", [_entry("dagster", "2026-01-01T00:00:00Z", annotates=True)], "run 1"),
        ("", [_entry("kubectl", "2026-01-01T00:00:00Z")], "kubectl"),
        (
            "run 1",
            [_entry("dagster", "2026-01-01T00:00:00Z", annotates=True), _entry("kubectl", "2026-01-02T00:00:00Z")],
            "kubectl",
        ),
        (
            "run 1",
            [
                _entry("dagster", "2026-01-01T00:00:00Z", annotates=True),
                _entry("shoal-controller", "2026-01-03T00:00:00Z", subresource="status"),
            ],
            "run 1",
        ),
    ],
)
def test_who_changed_it_last_started_the_rollout(annotation, managed, who):
    annotations = {ROLLOUT_BY: annotation} if annotation else {}
    assert started_by({"annotations": annotations, "managedFields": managed}) == who
