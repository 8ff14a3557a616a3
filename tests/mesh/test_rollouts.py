"""Rollouts in a whole mesh process with real model servers: declared, steered, restarted midway, gone back from."""

import contextlib
import json
import sqlite3
from dataclasses import replace

import grpc
import httpx
import pytest

from shoal.core.rollout.plan import Analyse, Pause, Plan, SetWeight, Strategy, WarmUp
from shoal.core.rollout.record import PAUSED, Phase, Verb
from shoal.core.types import FailureReason, Transition, Unplaceable
from shoal.mesh.api import RolloutRefusedError
from shoal.registry.protocol import RegistryError
from support.rollouts import CANARY, ERRORS, declaration, phase, reach, serving
from waiting import until

pytestmark = pytest.mark.server

CANARY_HEADER = [("x-shoal-canary", "always")]


@pytest.fixture
async def digits(world):
    """A mesh where `digits` serves its first revision."""
    await world.start_pod("pod-1")
    await world.start_mesh()
    await world.mesh.declare(declaration("v1"))
    assert await world.client.infer("digits") == "v1"
    return world


@pytest.fixture
async def admin(digits):
    async with httpx.AsyncClient(base_url=f"http://{digits.subnet}.1:18080", trust_env=False) as http:
        yield http


async def test_a_canary_goes_by_its_steps_and_takes_over(digits):
    mesh = digits.mesh
    assert mesh.rollout("digits") is None
    await mesh.declare(declaration("v2", by="someone"))
    await reach(digits, PAUSED)
    current = mesh.rollout("digits").current
    assert (current.id, current.by, current.weight) == ("digits-1", "someone", 100)
    assert await digits.client.infer("digits") == "v1"
    assert await digits.client.infer("digits", metadata=CANARY_HEADER) == "v2"
    assert await digits.client.infer("digits", metadata=[("mm-revision", "digits__v2")]) == "v2"

    resumed = await mesh.steer("digits", Verb.RESUME, rollout="digits-1", by="someone")
    assert resumed.weight == 500
    promoted = await mesh.steer("digits", Verb.PROMOTE, reason="good")
    assert promoted.phase in (Phase.PROMOTING, Phase.SUCCEEDED)
    await reach(digits, Phase.SUCCEEDED)
    assert await digits.client.infer("digits") == "v2"
    status = mesh.rollout("digits")
    assert status.retained == ("digits__v1",)
    assert {name: json.loads(text)["model"]["version"] for name, text in status.predictors.items()} == {
        "digits__v1": "v1",
        "digits__v2": "v2",
    }


async def test_going_back_to_what_is_retained_is_immediate_and_loads_nothing(digits):
    for version in ("v2", "v3"):
        await digits.mesh.declare(declaration(version))
        await reach(digits, PAUSED)
        await digits.mesh.steer("digits", Verb.PROMOTE)
        await serving(digits, version)
    await until(lambda: digits.mesh.rollout("digits").retained == ("digits__v2", "digits__v1"))
    loads = list(digits.pods["pod-1"].log)

    await digits.mesh.declare(declaration("v1"))
    await serving(digits, "v1")
    assert await digits.client.infer("digits") == "v1"
    await until(lambda: digits.mesh.rollout("digits").retained == ("digits__v3", "digits__v2"))
    status = digits.mesh.rollout("digits")
    assert (status.current.id, status.current.phase) == ("digits-3", Phase.SUCCEEDED)
    assert status.current.plan == Plan(keep=CANARY.keep)
    assert digits.pods["pod-1"].log == loads
    assert [past.rollout.id for past in status.past] == ["digits-2", "digits-1"]
    assert [json.loads(past.predictor)["model"]["version"] for past in status.past] == ["v3", "v2"]


async def test_without_a_plan_nothing_is_kept(digits):
    await digits.mesh.declare(declaration("v2", plan=None))
    await serving(digits, "v2")
    assert digits.mesh.rollout("digits") is None
    await until(lambda: "digits__v1" not in digits.pods["pod-1"].loaded)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await digits.client.infer("x", metadata=[("mm-revision", "digits__v1")])
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_only_so_many_revisions_are_retained(digits):
    for version in ("v2", "v3", "v4"):
        await digits.mesh.declare(declaration(version, plan=Plan(keep=1)))
        await serving(digits, version)
    await until(lambda: digits.mesh.rollout("digits").retained == ("digits__v3",))
    await until(lambda: set(digits.pods["pod-1"].loaded) == {"digits__v4", "digits__v3"})


@pytest.mark.parametrize("at_step", [1, 3])
async def test_a_restart_in_the_middle_goes_on_where_it_was(digits, at_step):
    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED, 1)
    if at_step == 3:
        await digits.mesh.steer("digits", Verb.RESUME)
        await reach(digits, PAUSED, 3)
    before = digits.mesh.rollout("digits").current

    await digits.stop_mesh()
    await digits.start_mesh()
    await digits.mesh.declare(declaration("v2"))  # as a controller does that starts anew
    await reach(digits, PAUSED, at_step)
    after = digits.mesh.rollout("digits").current
    assert (after.id, after.weight, after.timeline) == (before.id, before.weight, before.timeline)
    assert await digits.client.infer("digits") == "v1"
    await digits.mesh.steer("digits", Verb.PROMOTE)
    await serving(digits, "v2")
    assert await digits.client.infer("digits") == "v2"


@pytest.mark.parametrize("wanted", [Phase.LOADING, Phase.WARMING_UP, Phase.PROGRESSING])
@pytest.mark.parametrize("good", [True, False])
async def test_a_restart_in_any_phase_ends_as_declared_without_anyone(digits, wanted, good):
    digits.pods["pod-1"].infer_seconds = 0.1
    plan = Plan(
        Strategy.CANARY,
        steps=(SetWeight(100), Pause(0.5), SetWeight(500), Pause(0.5)),
        warm_up=WarmUp(requests=4, timeout=10),
        deadline=30 if good else 2,
    )
    pauses = plan.steps if good else (*plan.steps, Pause(60.0))
    await digits.mesh.declare(declaration("v2", plan=replace(plan, steps=pauses), seconds=0.4))
    await reach(digits, wanted)
    await digits.stop_mesh()
    await digits.start_mesh()
    await until(lambda: not digits.mesh.rollout("digits").current.live)
    current = digits.mesh.rollout("digits").current
    assert current.phase is (Phase.SUCCEEDED if good else Phase.ROLLED_BACK), current.reason
    assert await digits.client.infer("digits") == ("v2" if good else "v1")
    taken = [entry.what for entry in current.timeline].count("weight 10%")
    assert taken == 1 if good else taken <= 1  # no step is taken twice


async def test_going_back_by_steps_where_that_is_asked_for(digits):
    await digits.mesh.declare(declaration("v2", plan=Plan()))
    await serving(digits, "v2")
    await until(lambda: digits.mesh.rollout("digits").retained == ("digits__v1",))
    await digits.mesh.declare(replace(declaration("v1"), stepwise=True))
    await reach(digits, PAUSED, 1)
    assert await digits.client.infer("digits") == "v2"


async def test_what_was_rolled_back_stays_so_over_a_restart_until_it_is_retried(digits):
    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    aborted = await digits.mesh.steer("digits", Verb.ABORT, by="me", reason="too slow")
    assert (aborted.phase, aborted.weight) == (Phase.ROLLED_BACK, 0)
    assert "too slow" in aborted.reason

    await digits.stop_mesh()
    await digits.start_mesh()
    await digits.mesh.declare(declaration("v2"))
    assert await digits.client.infer("digits") == "v1"
    assert digits.mesh.rollout("digits").current.reason == aborted.reason
    assert phase(digits) == "RolledBack"

    await digits.mesh.steer("digits", Verb.RETRY, by="me")
    await reach(digits, PAUSED)
    await digits.mesh.steer("digits", Verb.PROMOTE)
    await serving(digits, "v2")


async def test_loading_by_name_after_a_rollback_loads_what_serves(digits):
    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    await digits.mesh.steer("digits", Verb.ABORT)
    repository = f"http://{digits.subnet}.1:18008/v2/repository/models/digits"
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.post(f"{repository}/unload")
        await until(lambda: "digits__v1" not in digits.pods["pod-1"].loaded)
        assert (await http.post(f"{repository}/load")).status_code == 200
    assert "digits__v1" in digits.pods["pod-1"].loaded


async def test_a_revision_that_does_not_load_is_rolled_back_with_the_reason(digits):
    await digits.mesh.declare(declaration("v2", fail="no such file"))
    await reach(digits, Phase.ROLLED_BACK)
    assert "no such file" in digits.mesh.rollout("digits").current.reason
    assert await digits.client.infer("digits") == "v1"
    view = digits.mesh.endpoint("digits")
    assert (view.active, view.target) == ("digits__v1", "digits__v2")
    assert view.transition is not Transition.IN_PROGRESS


async def test_without_its_evidence_a_revision_never_serves_and_with_it_a_rollout_begins(digits):
    missing = Unplaceable(FailureReason.EVIDENCE_MISSING, "evidence scan is missing: run it and publish again")
    await digits.mesh.declare(declaration("v2", unplaceable=missing))
    await reach(digits, Phase.ROLLED_BACK)
    assert "evidence scan is missing" in digits.mesh.rollout("digits").current.reason
    assert await digits.client.infer("digits") == "v1"

    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    assert digits.mesh.rollout("digits").current.id == "digits-2"


async def test_evidence_that_comes_begins_nothing_that_was_rolled_back_for_another_reason(digits):
    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    await digits.mesh.steer("digits", Verb.ABORT, reason="it errs")
    missing = Unplaceable(FailureReason.EVIDENCE_MISSING, "the runtime requires a scan since")
    await digits.mesh.declare(declaration("v2", unplaceable=missing))
    await digits.mesh.declare(declaration("v2"))
    assert digits.mesh.rollout("digits").current.id == "digits-1"
    assert phase(digits) == "RolledBack"


async def test_another_plan_for_what_was_rolled_back_is_another_rollout(digits):
    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    await digits.mesh.steer("digits", Verb.ABORT)
    await digits.mesh.declare(declaration("v2"))
    assert phase(digits) == "RolledBack"
    await digits.mesh.declare(declaration("v2", plan=Plan()))
    await serving(digits, "v2")
    assert digits.mesh.rollout("digits").current.id == "digits-2"


async def test_a_newer_declaration_supersedes_or_is_refused_as_declared(digits):
    mesh = digits.mesh
    await mesh.declare(declaration("v2", plan=replace(CANARY, supersede=False)))
    await reach(digits, PAUSED)
    with pytest.raises(RolloutRefusedError, match=r"digits-1 to digits__v2 is under way.*abort"):
        await mesh.declare(declaration("v3"))
    assert mesh.endpoint("digits").target == "digits__v2"
    await mesh.declare(declaration("v2", plan=replace(CANARY, supersede=False)))  # the same again is no other
    await mesh.steer("digits", Verb.ABORT)

    await mesh.declare(declaration("v3"))
    await reach(digits, PAUSED)
    await mesh.declare(declaration("v4"))
    await until(lambda: mesh.rollout("digits").current.id == "digits-3")
    assert mesh.rollout("digits").past[0].rollout.phase is Phase.SUPERSEDED
    await reach(digits, PAUSED)

    await mesh.declare(declaration("v1"))  # back to what serves
    await reach(digits, Phase.ROLLED_BACK)
    assert await digits.client.infer("digits") == "v1"
    assert mesh.endpoint("digits").target == "digits__v1"


async def test_steering_says_what_is_not_possible(digits):
    mesh = digits.mesh
    with pytest.raises(RolloutRefusedError, match="digits has no rollout"):
        await mesh.steer("digits", Verb.PAUSE)
    await mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    with pytest.raises(RolloutRefusedError, match="is digits-1, not digits-7"):
        await mesh.steer("digits", Verb.RESUME, rollout="digits-7")
    with pytest.raises(RolloutRefusedError, match="is Paused and cannot retry; possible now: resume"):
        await mesh.steer("digits", Verb.RETRY)


async def test_warm_up_comes_before_users(digits):
    plan = replace(CANARY, warm_up=WarmUp(requests=3, timeout=5))
    await digits.mesh.declare(declaration("v2", plan=plan, error="cannot even start"))
    await reach(digits, Phase.ROLLED_BACK)
    assert "cannot even start" in digits.mesh.rollout("digits").current.reason
    await digits.mesh.declare(declaration("v3", plan=plan))
    await reach(digits, PAUSED)
    assert digits.mesh.rollout("digits").current.warmed


async def test_all_is_forgotten_with_the_endpoint(digits):
    for version in ("v2", "v3"):
        await digits.mesh.declare(declaration(version, plan=Plan()))
        await serving(digits, version)
    await digits.mesh.undeclare("digits")
    assert digits.mesh.rollout("digits") is None
    await until(lambda: not digits.pods["pod-1"].loaded)
    await digits.stop_mesh()
    await digits.start_mesh()
    assert digits.mesh.rollout("digits") is None
    await digits.mesh.declare(declaration("v1"))
    await digits.mesh.declare(declaration("v2", plan=Plan()))
    await serving(digits, "v2")
    assert (digits.mesh.rollout("digits").current.id, digits.mesh.rollout("digits").past) == ("digits-1", ())


async def test_a_registry_that_takes_nothing_holds_no_rollout_up(digits):
    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    with contextlib.closing(sqlite3.connect(digits.registry.removeprefix("sqlite:"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match="cannot be written"):
            await digits.mesh.steer("digits", Verb.ABORT)
        assert digits.mesh.rollout("digits").current.weight == 0
        assert await digits.client.infer("digits") == "v1"
        other.execute("ROLLBACK")
    with pytest.raises(RolloutRefusedError, match="RolledBack and cannot abort"):
        await digits.mesh.steer("digits", Verb.ABORT)
    await digits.mesh.declare(declaration("v3"))  # durable when it returns, and so is what came before
    await digits.stop_mesh()
    await digits.start_mesh()
    await reach(digits, PAUSED)
    status = digits.mesh.rollout("digits")
    assert (status.current.id, status.past[0].rollout.phase) == ("digits-2", Phase.ROLLED_BACK)


# --- HTTP ------------------------------------------------------------------------------------------------------------


async def test_the_report_says_everything_in_words_and_figures(digits, admin):
    limits = replace(ERRORS, max_increase=0.005, min_samples=5)
    plan = replace(CANARY, steps=(SetWeight(55), Pause(90.0), Analyse((ERRORS,), 60.0)), checks=(limits,))
    assert (await admin.get("/rollouts")).json() == {"rollouts": []}
    assert (await admin.get("/rollouts/digits")).status_code == 404
    await digits.mesh.declare(declaration("v2", plan=plan, by="run 7"))
    await reach(digits, Phase.PROGRESSING)
    for _ in range(5):
        await digits.client.infer("digits")
        await digits.client.infer("digits", metadata=CANARY_HEADER)
    await until(lambda: digits.mesh.rollout("digits").target_window.requests == 5)
    report = (await admin.get("/rollouts/digits")).json()
    assert {key: report[key] for key in ("name", "id", "phase", "strategy", "active", "target", "by", "ended")} == {
        "name": "digits", "id": "digits-1", "phase": "Progressing", "strategy": "canary", "active": "digits__v1",
        "target": "digits__v2", "by": "run 7", "ended": None,
    }  # fmt: skip
    assert (report["weight"], report["shadow"], report["step"]) == (5.5, 0.0, 1)
    assert report["steps"] == ["set weight 5.5%", "pause 90s", "analyse errors within 1m"]
    assert report["deadline"] == pytest.approx(report["started"] + 3600)
    assert report["started"] <= report["stepSince"] <= report["now"]
    (check,) = report["checks"]
    assert (check["name"], check["metric"], check["limit"]) == ("errors", "errorRate", "<= 0.01, <= active + 0.005")
    figures = report["revisions"]["digits__v2"]
    assert (figures["requests"], figures["errors"], figures["errorRate"]) == (5, 0, 0.0)
    assert 0 < figures["p50Ms"] <= figures["p90Ms"] <= figures["p99Ms"]
    assert figures["disagreementRate"] is None
    assert report["timeline"][0]["what"] == "started by run 7"
    assert report["predictors"]["digits__v1"] == {"model": {"version": "v1"}}
    (listed,) = (await admin.get("/rollouts")).json()["rollouts"]
    assert listed["id"] == "digits-1"
    assert "history" not in listed


async def test_rollouts_are_steered_by_http(digits, admin):
    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    assert (await admin.post("/rollouts/digits/retry")).status_code == 409
    other = await admin.post("/rollouts/digits/resume", json={"rollout": "digits-9"})
    assert (other.status_code, "digits-1, not digits-9" in other.json()["error"]) == (409, True)
    resumed = (await admin.post("/rollouts/digits/resume", json={"rollout": "digits-1", "by": "me"})).json()
    assert (resumed["step"], resumed["weight"], resumed["deadline"]) == (3, 50.0, None)
    aborted = (await admin.post("/rollouts/digits/abort", json={"reason": "enough"})).json()
    assert (aborted["phase"], aborted["weight"]) == ("RolledBack", 0.0)
    assert "enough" in aborted["reason"]
    await digits.mesh.declare(declaration("v3", plan=Plan()))
    await serving(digits, "v3")
    (past,) = (await admin.get("/rollouts/digits")).json()["history"]
    assert (past["id"], past["phase"], past["target"]) == ("digits-1", "RolledBack", "digits__v2")
    assert past["predictor"] == {"model": {"version": "v2"}}


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("digits/explode", b"", 400, "must be one of pause, resume"),
        ("digits/pause", b"{", 400, "no JSON"),
        ("digits/pause", b"[1]", 400, "must be a JSON object"),
        ("digits/pause", b'{"because": "x"}', 400, "because: there is no such field"),
        ("digits/pause", b'{"by": 7}', 400, "by: must be text"),
        ("digits/pause", json.dumps({"reason": "x" * 501}).encode(), 400, "reason: has 501 characters"),
        ("digits/pause", b" " * 17_000, 413, "larger than the limit"),
        ("nobody/pause", b"", 404, "no rollout of nobody"),
    ],
)
async def test_wrong_requests_are_told_what_is_wrong(digits, admin, path, body, status, named):
    answer = await admin.post(f"/rollouts/{path}", content=body)
    assert answer.status_code == status
    assert named in answer.json()["error"]


async def test_prometheus_sees_both_revisions_until_the_endpoint_is_deleted(digits, admin):
    await digits.mesh.declare(declaration("v2"))
    await reach(digits, PAUSED)
    for _ in range(3):
        await digits.client.infer("digits", metadata=CANARY_HEADER)
    await until(lambda: digits.mesh.rollout("digits").target_window.requests == 3)
    metrics = (await admin.get("/metrics")).text
    target = '{endpoint="digits",revision="digits__v2",role="target"}'
    assert f"shoal_rollout_requests_total{target} 3.0" in metrics
    assert f"shoal_rollout_errors_total{target} 0.0" in metrics
    assert f"shoal_rollout_weight{target} 0.1" in metrics
    assert f"shoal_rollout_latency_milliseconds_count{target} 3.0" in metrics
    assert 'shoal_rollout_weight{endpoint="digits",revision="digits__v1",role="active"} 0.9' in metrics
    assert 'shoal_rollout_phase{endpoint="digits",phase="Paused"} 1.0' in metrics
    await digits.mesh.undeclare("digits")
    assert 'endpoint="digits"' not in (await admin.get("/metrics")).text
