"""Tests and probes choose what answers: a revision by `mm-revision`, a side of a rollout by `x-shoal-canary`."""

from __future__ import annotations

import grpc
import httpx
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.names import asked_for
from shoal_protos import inference as oip
from support.gateway import HttpServer, ModelServer, Stub, running_gateway

pytestmark = pytest.mark.server
OLD, NEW = "digits__isvc-old", "digits__isvc-new"
CANARY = RouteKey("digits", canary=True)
STANDARD = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
PROTOBUF = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "contents": {"fp32_contents": [1.0]}}]}
URL = "/v2/models/digits/infer"


@pytest.fixture
async def activator_http():
    server = HttpServer("activator")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def gateway(activator_http):
    async with running_gateway(activator_http.address) as running:
        running.activator.revisions = {"digits", NEW}
        yield running


@pytest.fixture
async def pods():
    """The active revision's pod and the canary's."""
    servers = ModelServer(OLD, name="old"), ModelServer(NEW, name="new")
    for server in servers:
        await server.start()
    yield servers
    for server in servers:
        await server.stop()


@pytest.fixture
async def rest_pods():
    servers = HttpServer("old"), HttpServer("new")
    for server in servers:
        await server.start()
    yield servers
    for server in servers:
        await server.stop()


@pytest.fixture
async def stub(gateway):
    async with grpc.aio.insecure_channel(gateway.target) as channel:
        yield Stub(channel)


@pytest.fixture
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.rest, timeout=10) as client:
        yield client


async def infer(stub: Stub, name: str = "digits", **headers: str) -> str:
    metadata = [(key.replace("_", "-"), value) for key, value in headers.items()]
    return (await stub.ModelInfer(oip.ModelInferRequest(model_name=name), metadata=metadata)).model_version


async def rollout(gateway, pods, rest_pods=(None, None)):
    """A canary at weight 0: only those who ask for it get to it."""
    old, new = (
        pod.upstream(revision, http_port=None)
        if rest is None
        else type(pod.upstream(revision))(revision, rest.address.host, pod.address.port, rest.address.port)
        for pod, revision, rest in zip(pods, (OLD, NEW), rest_pods, strict=True)
    )
    await gateway.route({"digits": (old,), CANARY: (new,), RouteKey(NEW, is_revision=True): (new,)})


async def test_the_canary_is_for_those_who_ask(gateway, pods, stub):
    await rollout(gateway, pods)
    assert await infer(stub) == "old"
    assert await infer(stub, x_shoal_canary="always") == "new"
    assert await infer(stub, "anything", mm_vmodel_id="digits", x_shoal_canary="always") == "new"
    assert pods[1].metadata[-1]["mm-model-id"] == NEW


async def test_without_a_canary_the_activator_is_told_of_the_wish(gateway, pods, stub):
    await gateway.route({"digits": (pods[0].upstream(OLD),)})
    assert await infer(stub, x_shoal_canary="always") == "activator"
    seen = gateway.activator.metadata[-1]
    assert (asked_for(seen.items()), seen["x-shoal-canary"]) == (CANARY, "always")
    assert "mm-model-id" not in seen


async def test_a_canary_that_is_gone_is_the_activators_business(gateway, pods, stub):
    await rollout(gateway, pods)
    await pods[1].stop()
    assert await infer(stub, x_shoal_canary="always") == "activator"
    seen = gateway.activator.metadata[-1]
    assert (asked_for(seen.items()), seen["x-shoal-canary"]) == (CANARY, "always")


async def test_who_never_wants_the_canary_gets_the_active_revision(gateway, pods, stub):
    old, new = pods[0].upstream(OLD, 1), pods[1].upstream(NEW, 999)
    assert await infer(stub, x_shoal_canary="never") == "activator"
    await gateway.route({"digits": (old,)})
    assert await infer(stub, x_shoal_canary="never") == "old"
    await gateway.route({"digits": (old, new), CANARY: (new,)})
    assert {await infer(stub, x_shoal_canary="never") for _ in range(10)} == {"activator"}
    assert asked_for(gateway.activator.metadata[-1].items()) == RouteKey("digits")


async def test_a_stream_may_ask_for_the_canary(gateway, pods, stub):
    await rollout(gateway, pods)
    call = stub.ModelStreamInfer(metadata=[("mm-vmodel-id", "digits"), ("x-shoal-canary", "always")])
    await call.write(oip.ModelInferRequest(model_name="digits"))
    assert (await call.read()).model_version == "new"
    call.cancel()


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"x-shoal-canary": "yes"}, "x-shoal-canary must be always or never, not yes"),
        ({"x-shoal-canary": ""}, "x-shoal-canary must be always or never"),
        ({"x-shoal-canary": "always", "mm-revision": NEW}, "x-shoal-canary is for endpoints"),
        ({"mm-revision": ""}, "mm-revision is empty"),
        ({"mm-revision": NEW, "mm-model-id": OLD}, f"mm-revision names {NEW} but mm-model-id {OLD}"),
    ],
)
async def test_wishes_that_mean_nothing_are_told_so(gateway, stub, client, headers, says):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(oip.ModelInferRequest(model_name="digits"), metadata=list(headers.items()))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in caught.value.details()
    answer = await client.post(URL, json=STANDARD, headers=headers)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert not gateway.activator.metadata


@pytest.mark.parametrize("also", [{}, {"mm_vmodel_id": "digits"}, {"mm_model_id": NEW}])
async def test_mm_revision_counts_whatever_else_names_the_model(gateway, pods, stub, also):
    await rollout(gateway, pods)
    assert await infer(stub, "anything", mm_revision=NEW, **also) == "activator"
    seen = gateway.activator.metadata[-1]
    assert asked_for(seen.items()) == RouteKey(NEW, is_revision=True)
    assert "mm-vmodel-id" not in seen
    gateway.control.want_revision(NEW)
    await gateway.route({})
    assert await infer(stub, "anything", mm_revision=NEW, **also) == "new"
    assert await infer(stub, "", mm_revision=NEW, **also) == "new"


async def test_rest_by_revision(gateway, pods, rest_pods, client, activator_http):
    await rollout(gateway, pods, rest_pods)
    path = "/v2/models/anything/infer"
    answer = await client.post(path, json=STANDARD, headers={"mm-revision": NEW})
    assert answer.json() == {"server": "activator", "path": path}
    assert asked_for(activator_http.requests[-1][2].items()) == RouteKey(NEW, is_revision=True)

    gateway.control.want_revision(NEW)
    gateway.control.want_http(RouteKey(NEW, is_revision=True))
    await gateway.route({})
    answer = await client.post(path, json=STANDARD, headers={"mm-revision": NEW})
    assert answer.json() == {"server": "new", "path": f"/v2/models/{NEW}/infer"}
    answer = await client.get("/v2/models/anything", headers={"mm-revision": NEW})
    assert answer.json() == {"server": "new", "path": f"/v2/models/{NEW}"}
    answer = await client.post(path, json=PROTOBUF | {"model_name": "another"}, headers={"mm-revision": NEW})
    assert (answer.status_code, answer.json()["modelVersion"]) == (200, "new")


async def test_rest_to_the_canary(gateway, pods, rest_pods, client, activator_http):
    await rollout(gateway, pods, rest_pods)
    always = {"x-shoal-canary": "always"}
    assert (await client.post(URL, json=PROTOBUF, headers=always)).json()["modelVersion"] == "new"
    assert (await client.post(URL, json=STANDARD, headers=always)).json()["server"] == "activator"
    headers = activator_http.requests[-1][2]
    assert (asked_for(headers.items()), headers["x-shoal-canary"]) == (CANARY, "always")

    gateway.control.want_http(CANARY)
    gateway.control.want_http(RouteKey("digits"))
    await gateway.route({})
    assert (await client.post(URL, json=STANDARD, headers=always)).json()["server"] == "new"
    assert (await client.post(URL, json=STANDARD)).json()["server"] == "old"
    assert (await client.post(URL, json=STANDARD, headers={"x-shoal-canary": "never"})).json()["server"] == "old"
    await gateway.route({CANARY: ()})
    answer = await client.post(URL, json=STANDARD, headers=always)
    assert answer.json() == {"server": "activator", "path": URL}
