"""Rollouts in a whole mesh process: what comes through the activator is shadowed, warm-ups use what users asked, and
webhooks are heard."""

import json
from dataclasses import replace

import httpx
import pytest

from shoal.core.rollout.plan import Analyse, Check, Metric, Pause, Plan, SetShadow, SetWeight, Strategy, WarmUp
from shoal.core.rollout.record import PAUSED, Phase
from shoal.mesh.api import Declaration, ModelInfo
from support.mesh_rollout import Outside
from waiting import until

pytestmark = pytest.mark.server

SHADOW = Plan(Strategy.SHADOW, (SetShadow(1000), Pause(None)))
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}


async def declare(world, revision, answer, plan=None):
    info = ModelInfo("rt:test", json.dumps({"answer": answer}))
    await world.mesh.declare(Declaration("digits", f"digits__{revision}", info, "test", plan=plan))


def status(world):
    return world.mesh.rollout("digits")


async def in_phase(world, phase):
    await until(
        lambda: status(world).current.shown == getattr(phase, "value", phase), f"{phase}, not {status(world).current}"
    )


@pytest.fixture
async def world(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await declare(world, "old", "seven")
    assert await world.client.infer("digits") == "seven"
    return world


@pytest.mark.parametrize(("answer", "disagreed"), [("seven", 0), ("one", 20)])
async def test_requests_through_the_activator_are_shadowed_and_compared(world, answer, disagreed):
    await declare(world, "new", answer, SHADOW)
    await until(lambda: status(world).current.shadow, "the shadow")
    for _ in range(20):
        assert await world.client.infer("digits") == "seven"
    await until(lambda: status(world).target_window.compared == 20, "all comparisons")
    target, active = status(world).target_window, status(world).active_window
    assert (target.requests, target.errors, target.disagreed) == (20, 0, disagreed)
    assert active.requests >= 20
    assert active.latency(0.5) > 0
    assert status(world).current.shown == Phase.PROGRESSING.value or status(world).current.shown == PAUSED


async def test_what_failed_at_a_canary_before_is_answered_and_not_counted(world):
    await declare(world, "new", "one", SHADOW)
    await until(lambda: status(world).current.shadow, "the shadow")
    assert await world.client.infer("digits", metadata=[("x-envoy-attempt-count", "2")]) == "seven"
    assert await world.client.infer("digits") == "seven"
    await until(lambda: status(world).target_window.compared, "the comparison")
    assert (status(world).active_window.requests, status(world).target_window.requests) == (1, 1)


async def rest(world, body):
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"http://{world.subnet}.1:18008/v2/models/digits/infer"
        return await http.post(url, content=body, headers={"content-type": "application/json"})


async def test_rest_requests_are_shadowed_over_grpc_where_there_is_no_other_way(world):
    await declare(world, "new", "one", SHADOW)
    await until(lambda: status(world).current.shadow, "the shadow")
    answer = await rest(world, json.dumps(BODY))
    assert answer.json()["outputs"][0]["data"] == ["seven"]
    await until(lambda: status(world).target_window.compared == 1, "the comparison")
    assert status(world).target_window.disagreed == 1


async def test_rest_requests_are_shadowed_over_http_where_there_is_a_server_for_that(world):
    pod = world.pods["pod-1"]
    http = Outside(pod.host)
    try:
        http.says({"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [0.25, 7]}]})
        world.mesh.pod_found(replace(world.endpoint("pod-1"), http_port=http.port))
        await declare(world, "new", "one", SHADOW)
        await until(lambda: status(world).current.shadow, "the shadow", 20)
        assert (await rest(world, json.dumps(BODY))).json()["outputs"][0]["data"] == [0.25, 7]
        await until(lambda: status(world).target_window.compared == 1, "the comparison")
        asked = [(path, json.loads(body)) for _, path, body in http.got]
        assert asked == [(f"/v2/models/digits__{revision}/infer", BODY) for revision in ("old", "new")]
        assert status(world).target_window.disagreed == 0
        assert sum(status(world).target_window.scores.values()) == 2
        # An error of the target alone.
        http.statuses = {"/v2/models/digits__new/infer": 500}
        assert (await rest(world, json.dumps(BODY))).status_code == 200
        await until(lambda: status(world).target_window.errors == 1, "the error")
        assert status(world).active_window.errors == 0
    finally:
        http.close()


async def test_a_target_that_disagrees_is_rolled_back(world):
    check = Check("flips", Metric.DISAGREEMENT_RATE, max=0.05, min_samples=20)
    await declare(world, "new", "one", Plan(Strategy.SHADOW, (SetShadow(1000), Analyse((check,), 60.0))))
    await until(lambda: status(world).current.shadow, "the shadow")
    for _ in range(60):
        assert await world.client.infer("digits") == "seven"
    await in_phase(world, Phase.ROLLED_BACK)
    assert "flips" in status(world).current.reason
    assert await world.client.infer("digits") == "seven"


async def test_users_requests_warm_a_new_revision_up(world):
    pod, asked = world.pods["pod-1"], []
    answer = pod.answer

    async def noted(request, context):
        asked.append(request)
        return await answer(request, context)

    pod.answer = noted
    plan = Plan(Strategy.CANARY, (SetWeight(100), Pause(None)), warm_up=WarmUp(5, 10.0))
    await declare(world, "new", "eight", plan)
    await in_phase(world, PAUSED)
    assert [request.model_name for request in asked] == ["digits__new"] * 5
    assert {request.inputs[0].contents.fp32_contents[0] for request in asked} == {1.0}  # what the client asked before


async def test_a_webhook_that_says_no_rolls_back(world):
    outside = Outside()
    try:
        outside.says({"passed": False, "message": "returns went up"})
        check = Check("hook", Metric.WEBHOOK, url=outside.url, interval=0.1, timeout=5.0)
        await declare(world, "new", "eight", Plan(Strategy.CANARY, (SetWeight(100), Pause(None)), (check,)))
        await in_phase(world, Phase.ROLLED_BACK)
        assert "returns went up" in status(world).current.reason
    finally:
        outside.close()
