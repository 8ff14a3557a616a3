"""Errors of a shielded copy do not reach users: the activator, and so the active revision, answers instead."""

from __future__ import annotations

import asyncio
from collections import Counter

import grpc
import httpx
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.names import asked_for
from shoal_protos import inference as oip
from support.gateway import Gateway, HttpServer, ModelServer, Stub, running_gateway
from waiting import until

pytestmark = pytest.mark.server
OLD, NEW = "digits__isvc-old", "digits__isvc-new"
STANDARD = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
PROTOBUF = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "contents": {"fp32_contents": [1.0]}}]}
URL = "/v2/models/digits/infer"
SHIELDED = [
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
]


class Raising(ModelServer):
    """Its model raises, which is how most errors of models come about."""

    async def ModelInfer(self, request, context):
        raise ValueError("no such feature")


@pytest.fixture
async def activator_http():
    server = HttpServer("activator")
    server.marks = "x-shoal-served: cold\r\n"
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def gateway(activator_http):
    async with running_gateway(activator_http.address) as running:
        running.activator.revisions = {"digits"}
        yield running


@pytest.fixture
async def canary(gateway):
    """A shielded copy that has the whole route, so that every request comes to it first."""
    server = ModelServer(NEW, name="canary")
    await server.start()
    await gateway.route({"digits": (server.upstream(NEW, watched=True, shielded=True),)})
    yield server
    await server.stop()


@pytest.fixture
async def canary_http(gateway, canary):
    http = HttpServer("canary")
    await http.start()
    upstream = type(canary.upstream(NEW))(
        NEW, http.address.host, canary.address.port, http.address.port, watched=True, shielded=True
    )
    gateway.control.want_http(RouteKey("digits"))
    await gateway.route({"digits": (upstream,)})
    yield http
    await http.stop()


@pytest.fixture
async def stub(gateway):
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(gateway.target, options=options) as channel:
        yield Stub(channel)


@pytest.fixture
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.rest, timeout=10) as client:
        yield client


async def reported_failure(gateway: Gateway) -> None:
    """Users saw nothing, but the canary's error is reported, once."""
    await until(lambda: gateway.heard.seen, seconds=10)
    [seen] = gateway.heard.seen
    assert (seen.key, seen.revision, seen.error) == (RouteKey("digits"), NEW, True)


@pytest.mark.parametrize("code", SHIELDED)
async def test_the_activator_answers_for_a_copy_that_errs(gateway, canary, stub, code):
    canary.fail = code
    request = oip.ModelInferRequest(model_name="digits", id="7", raw_input_contents=[b"x" * 1000])
    answer = await stub.ModelInfer(request)
    assert (answer.model_version, answer.model_name, answer.id) == ("activator", "digits", "7")
    assert gateway.activator.requests == [request]
    metadata = gateway.activator.metadata[-1]
    assert (asked_for(metadata.items()), metadata["x-envoy-attempt-count"]) == (RouteKey("digits"), "2")
    assert not {"mm-model-id", "x-shoal-watched"} & set(metadata)
    assert len(canary.metadata) == 1
    await reported_failure(gateway)


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.PERMISSION_DENIED])
async def test_other_answers_pass(gateway, canary, stub, code):
    canary.fail = code
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert (caught.value.code(), caught.value.details()) == (code, "told to fail")
    assert not gateway.activator.metadata


async def test_a_model_that_raises(gateway, stub):
    canary = Raising(NEW)
    await canary.start()
    await gateway.route({"digits": (canary.upstream(NEW, watched=True, shielded=True),)})
    answer = await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert answer.model_version == "activator"
    await reported_failure(gateway)
    await canary.stop()


async def test_errors_of_the_active_revision_beside_it_pass_unchanged(gateway, canary, stub):
    active = ModelServer(OLD, name="active")
    await active.start()
    copies = canary.upstream(NEW, 500, watched=True, shielded=True), active.upstream(OLD, 500, watched=True)
    await gateway.route({"digits": copies})
    canary.fail = active.fail = grpc.StatusCode.INTERNAL
    answers, marks = [], []
    for _ in range(20):
        try:
            answers.append((await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))).model_version)
        except grpc.aio.AioRpcError as error:
            answers.append((error.code(), error.details()))
            marks += [key for key, _ in (*error.initial_metadata(), *error.trailing_metadata()) if "shoal" in key]
    assert not marks
    assert answers.count("activator") == 10
    assert answers.count((grpc.StatusCode.INTERNAL, "told to fail")) == 10
    await until(lambda: len(gateway.heard.seen) == 20)
    assert sorted(seen.revision for seen in gateway.heard.seen) == [NEW] * 10 + [OLD] * 10
    assert all(seen.error for seen in gateway.heard.seen)
    await active.stop()


async def test_a_request_that_both_revisions_refuse_is_an_error_of_neither(gateway, canary, stub):
    canary.fail = gateway.activator.fail = grpc.StatusCode.INVALID_ARGUMENT
    for refused, charged in ((True, False), (False, True)):
        gateway.heard.seen.clear()
        if not refused:
            gateway.activator.fail = None
            await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
        else:
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
        await until(lambda: gateway.heard.seen)
        assert [seen.error for seen in gateway.heard.seen] == [charged]


async def test_a_request_that_no_model_could_take_is_not_asked_of_another(gateway, canary, stub):
    canary.fail, canary.trailers = grpc.StatusCode.INVALID_ARGUMENT, (("x-shoal-fault", "request"),)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert not gateway.activator.metadata
    await until(lambda: gateway.heard.seen)
    assert [seen.error for seen in gateway.heard.seen] == [False]


async def test_the_activators_error_is_final(gateway, canary, stub):
    canary.fail = grpc.StatusCode.INTERNAL
    gateway.activator.fail = grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "told to fail")
    assert (len(canary.metadata), len(gateway.activator.metadata)) == (1, 1)


async def test_large_requests_are_kept_for_the_activator(gateway, canary, stub):
    canary.fail = grpc.StatusCode.INTERNAL
    request = oip.ModelInferRequest(model_name="digits", raw_input_contents=[b"x" * (15 << 20)])
    assert (await stub.ModelInfer(request)).model_version == "activator"
    assert gateway.activator.requests == [request]


async def test_an_error_after_headers_passes(gateway, canary, stub):
    """What has begun to be answered cannot be taken back. Model servers send headers and error in one go."""
    canary.fail, canary.final = grpc.StatusCode.INTERNAL, True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    await reported_failure(gateway)


async def test_streams_until_their_first_answer(gateway, canary, stub):
    canary.fail = grpc.StatusCode.INTERNAL
    gateway.activator.final = False
    call = stub.ModelStreamInfer(metadata=[("mm-vmodel-id", "digits")])
    await call.write(oip.ModelInferRequest(model_name="digits", id="1"))
    answer = await call.read()
    assert (answer.model_version, answer.id) == ("activator", "1")
    await call.write(oip.ModelInferRequest(model_name="digits", id="2"))
    assert (await call.read()).id == "2"
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK
    await reported_failure(gateway)

    canary.fail = None
    call = stub.ModelStreamInfer(metadata=[("mm-vmodel-id", "digits")])
    await call.write(oip.ModelInferRequest(model_name="digits"))
    assert (await call.read()).model_version == "canary"
    canary.fail = grpc.StatusCode.INTERNAL
    await call.write(oip.ModelInferRequest(model_name="digits"))
    assert await call.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("fault", ["errs", "lost", "dead"])
async def test_sticky_requests_are_not_tried_again_where_they_failed(gateway, canary, stub, fault):
    active = ModelServer(OLD, name="active")
    await active.start()
    copies = canary.upstream(NEW, 500, watched=True, shielded=True, sticky=True), active.upstream(OLD, 500, sticky=True)
    await gateway.route({"digits": copies})

    async def answers() -> list[str]:
        request = oip.ModelInferRequest(model_name="digits")
        calls = [stub.ModelInfer(request, metadata=[("x-shoal-sticky", f"user-{number}")]) for number in range(40)]
        return [answer.model_version for answer in await asyncio.gather(*calls)]

    before = await answers()
    assert set(before) == {"canary", "active"}
    if fault == "errs":
        canary.fail = grpc.StatusCode.INTERNAL
    elif fault == "lost":
        canary.revisions = set()
    else:
        await canary.stop()
    assert await answers() == ["activator" if one == "canary" else one for one in before]
    assert {metadata["x-envoy-attempt-count"] for metadata in gateway.activator.metadata} == {"2"}
    assert {asked_for(metadata.items()) for metadata in gateway.activator.metadata} == {RouteKey("digits")}
    await active.stop()


@pytest.mark.parametrize("sticky", [False, True])
async def test_a_gateway_that_starts_during_a_rollout(gateway, canary, sticky):
    await gateway.route({"digits": (canary.upstream(NEW, watched=True, shielded=True, sticky=sticky),)})
    await gateway.stop_process()
    await until(lambda: not gateway.control.connected)
    await gateway.start_process()
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        infer = Stub(channel).ModelInfer
        assert (await infer(oip.ModelInferRequest(model_name="digits"))).model_version == "canary"
        canary.fail = grpc.StatusCode.INTERNAL
        assert (await infer(oip.ModelInferRequest(model_name="digits"))).model_version == "activator"


async def test_sticky_requests_outlast_a_restart_of_the_activator(gateway, canary, stub):
    await gateway.route({"digits": (canary.upstream(NEW, shielded=True, sticky=True),)})
    canary.fail = grpc.StatusCode.INTERNAL
    await gateway.activator.stop()
    call = asyncio.ensure_future(stub.ModelInfer(oip.ModelInferRequest(model_name="digits")))
    await until(lambda: canary.metadata)
    await asyncio.sleep(0.2)
    await gateway.activator.start()
    assert (await call).model_version == "activator"
    assert len(canary.metadata) == 1


async def test_users_notice_nothing_while_routes_change_all_the_time(gateway, canary, stub):
    """Weights, stickiness and the canary's health change; every error is the canary's own and stays with it."""
    active = ModelServer(OLD, name="active")
    await active.start()
    answers: Counter[str] = Counter()
    over = asyncio.Event()

    async def user(number: int) -> None:
        while not over.is_set():
            sticky = [("x-shoal-sticky", f"user-{number}")] if number % 2 else []
            answer = await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"), metadata=sticky)
            answers[answer.model_version] += 1

    users = [asyncio.ensure_future(user(number)) for number in range(8)]
    for step in range(80):
        weight, sticky = (10, 500, 0, 900)[step % 4], bool(step % 3)
        canary.fail = grpc.StatusCode.INTERNAL if step % 5 in (1, 2) else None
        copies = active.upstream(OLD, 1000 - weight, watched=True, sticky=sticky)
        await gateway.route(
            {"digits": (copies, canary.upstream(NEW, weight, watched=True, shielded=True, sticky=sticky))}
        )
        await asyncio.sleep(0.02)
    over.set()
    await asyncio.gather(*users)
    attempts = len(active.metadata) + len(canary.metadata)
    await until(lambda: len(gateway.heard.seen) == attempts)
    failed = sum(seen.error for seen in gateway.heard.seen)
    assert failed == len(canary.metadata) - answers["canary"] > 0
    assert not [seen for seen in gateway.heard.seen if seen.error and seen.revision == OLD]
    await active.stop()


@pytest.mark.parametrize("meanwhile", ["replaced", "withdrawn"])
async def test_a_copy_that_errs_after_the_rollout_ended(gateway, canary, stub, meanwhile):
    active = ModelServer(OLD, name="active")
    await active.start()
    canary.hold = asyncio.Event()
    call = asyncio.ensure_future(stub.ModelInfer(oip.ModelInferRequest(model_name="digits")))
    await until(lambda: canary.metadata)
    await gateway.route({"digits": (active.upstream(OLD),) if meanwhile == "replaced" else ()})
    canary.fail = grpc.StatusCode.INTERNAL
    canary.hold.set()
    assert (await call).model_version == "activator"
    await reported_failure(gateway)
    await active.stop()


@pytest.mark.parametrize("status", [400, 422, 500, 501, 503])
async def test_rest_in_the_standard_form(gateway, canary_http, client, activator_http, status):
    canary_http.status = status
    answer = await client.post(URL, json=STANDARD)
    assert (answer.status_code, answer.json()) == (200, {"server": "activator", "path": f"/v2/models/{NEW}/infer"})
    assert asked_for(activator_http.requests[-1][2].items()) == RouteKey("digits")
    assert activator_http.requests[-1][3] == canary_http.requests[-1][3]
    assert not [name for name in answer.headers if name.startswith("x-shoal") and name != "x-shoal-served"]
    await reported_failure(gateway)


@pytest.mark.parametrize("status", [409, 429])
async def test_other_answers_of_rest_pass(gateway, canary_http, client, activator_http, status):
    canary_http.status = status
    answer = await client.post(URL, json=STANDARD)
    assert (answer.status_code, answer.json()["server"]) == (status, "canary")
    assert not activator_http.requests


async def test_the_activators_error_is_final_in_rest_too(canary_http, client, activator_http):
    canary_http.status = activator_http.status = 500
    answer = await client.post(URL, json=STANDARD)
    assert (answer.status_code, answer.json()["server"]) == (500, "activator")
    assert (len(canary_http.requests), len(activator_http.requests)) == (1, 1)


async def test_rest_in_the_protobuf_form(gateway, canary, client):
    canary.fail = grpc.StatusCode.INTERNAL
    answer = await client.post(URL, json=PROTOBUF)
    assert (answer.status_code, answer.json()["modelVersion"]) == (200, "activator")
    await reported_failure(gateway)


async def test_without_a_shield_rest_passes_errors_on(gateway, canary, canary_http, client):
    upstream = type(canary.upstream(NEW))(
        NEW, canary_http.address.host, canary.address.port, canary_http.address.port, watched=True
    )
    await gateway.route({"digits": (upstream,)})
    canary.fail, canary_http.status = grpc.StatusCode.INTERNAL, 500
    for body in (STANDARD, PROTOBUF):
        answer = await client.post(URL, json=body)
        assert answer.status_code == 500
    assert "x-shoal-again" not in answer.headers
