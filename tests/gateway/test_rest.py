"""REST through a real Envoy: both forms of the body, metadata, the mesh's own routes, and clear refusals."""

from __future__ import annotations

import gzip
import json
import random

import grpc
import httpx
import pytest

from shoal.core.types import RouteKey
from shoal.gateway.names import asked_for
from shoal_protos import inference as oip
from support.gateway import HttpServer, ModelServer, running_gateway

pytestmark = pytest.mark.server
REVISION = "sklearn-mnist__isvc-3c10c62d34"
NAME = "sklearn-mnist"
PIXELS = [0.0, 0.0, 1.0, 11.0]


def protobuf_body(**changes):
    return {
        "inputs": [
            {"name": "predict", "shape": [1, 4], "datatype": "FP32", "contents": {"fp32_contents": PIXELS}} | changes
        ]
    }


def standard_body(**changes):
    return {"inputs": [{"name": "predict", "shape": [1, 4], "datatype": "FP32", "data": PIXELS} | changes]}


class Mnist(ModelServer):
    """Answers as the digits model of MLServer does."""

    async def ModelInfer(self, request, context):
        answer = await super().ModelInfer(request, context)
        answer.ClearField("model_version")
        output = answer.outputs.add(name="predict", datatype="INT64", shape=[1, 1])
        output.contents.int64_contents.append(8)
        return answer


@pytest.fixture
async def activator_http():
    server = HttpServer("activator")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def pod_http():
    server = HttpServer("pod")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def gateway(activator_http):
    async with running_gateway(activator_http.address) as running:
        yield running


@pytest.fixture
async def pod(gateway, pod_http):
    server = Mnist(REVISION, name="pod")
    await server.start()
    await gateway.route({NAME: (server.upstream(REVISION, http_port=None),)})
    yield server
    await server.stop()


@pytest.fixture
async def client(gateway):
    async with httpx.AsyncClient(base_url=gateway.rest, timeout=10) as client:
        yield client


async def route_http(gateway, pod, pod_http):
    """The model server with its HTTP endpoint, which the tests have on another address."""
    upstream = type(pod.upstream(REVISION))(REVISION, pod_http.address.host, pod.address.port, pod_http.address.port)
    await gateway.route({NAME: (upstream,)})
    gateway.control.want_http(RouteKey(NAME))
    await gateway.route({})


INFER = f"/v2/models/{NAME}/infer"


async def test_the_protobuf_form_answers_as_modelmesh_does(client, pod):
    # Sent as curl -d sends it.
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.post(INFER, content=json.dumps(protobuf_body()), headers=headers)
    assert answer.status_code == 200
    assert answer.text == (
        '{"modelName":"sklearn-mnist__isvc-3c10c62d34","outputs":[{"name":"predict","datatype":"INT64",'
        '"shape":["1","1"],"contents":{"int64Contents":["8"]}}]}'
    )
    assert list(pod.requests[-1].inputs[0].contents.fp32_contents) == PIXELS
    assert "grpc-status" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("x-")]


async def test_the_protobuf_form_in_camel_case_with_version_and_parameters(client, pod):
    body = protobuf_body(contents={"fp32Contents": PIXELS}, parameters={"content_type": {"stringParam": "np"}})
    answer = await client.post(f"/v2/models/{NAME}/versions/3/infer", json=body | {"id": "a", "modelName": NAME})
    assert answer.status_code == 200
    request = pod.requests[-1]
    assert (request.model_name, request.model_version, request.id) == (REVISION, "3", "a")
    assert request.inputs[0].parameters["content_type"].string_param == "np"


async def test_errors_of_converted_requests_are_readable(client, pod, gateway):
    for code, status in (
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
    ):
        pod.fail = code
        answer = await client.post(INFER, json=protobuf_body())
        assert (answer.status_code, answer.json()) == (status, {"error": "told to fail"})
    answer = await client.post("/v2/models/nobody/infer", json=protobuf_body())
    assert (answer.status_code, answer.json()) == (404, {"error": "activator has no nobody"})


async def test_the_standard_form_goes_to_the_model_servers_own_endpoint(client, pod, gateway, pod_http):
    await route_http(gateway, pod, pod_http)
    for data in (PIXELS, [PIXELS]):
        answer = await client.post(INFER, json=standard_body(data=data), headers={"content-type": "text/plain"})
        assert answer.json() == {"server": "pod", "path": f"/v2/models/{REVISION}/infer"}
        _, _, headers, body = pod_http.requests[-1]
        assert json.loads(body)["inputs"][0]["data"] == data
        assert headers["mm-model-id"] == REVISION
        assert headers["content-type"] == "application/json"


def as_kserve_sends_it(version: str | None = None) -> dict:
    """As `InferenceRESTClient` of kserve 0.21 writes a request: always with the model's name."""
    named = {"id": "5a1ec7d8", "model_name": NAME} | ({"model_version": version} if version else {})
    return named | standard_body()


async def test_kserves_client_repeats_the_name_in_the_body(client, pod, gateway, pod_http, activator_http):
    answer = await client.post(INFER, json=as_kserve_sends_it())
    assert answer.json() == {"server": "activator", "path": INFER}
    await route_http(gateway, pod, pod_http)
    answer = await client.post(INFER, json=as_kserve_sends_it())
    assert answer.json() == {"server": "pod", "path": f"/v2/models/{REVISION}/infer"}
    head = json.dumps({"model_name": NAME, "inputs": [{"name": "a", "shape": [1], "datatype": "BOOL"}]}).encode()
    answer = await client.post(INFER, content=head + b"1", headers={"inference-header-content-length": str(len(head))})
    assert answer.json()["server"] == "pod"
    answer = await client.post(f"/v2/models/{NAME}/versions/3/infer", json=as_kserve_sends_it("3"))
    assert answer.json() == {"server": "pod", "path": f"/v2/models/{REVISION}/versions/3/infer"}
    elsewhere = {"mm-revision": REVISION}
    answer = await client.post("/v2/models/any/infer", json=as_kserve_sends_it(), headers=elsewhere)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "changes", "says"),
    [
        (
            INFER,
            {"model_name": "other"},
            "model_name is other but the path names sklearn-mnist; leave it out or make them agree",
        ),
        (INFER, {"model_name": 1}, "model_name must be a string"),
        (INFER, {"model_version": "3"}, "model_version is 3 but the path names no version"),
        (f"/v2/models/{NAME}/versions/2/infer", {"model_version": "3"}, "model_version is 3 but the path names 2"),
    ],
)
@pytest.mark.parametrize("cold", [True, False], ids=["cold", "hot"])
async def test_a_body_that_contradicts_its_path_is_refused(
    client, pod, gateway, pod_http, activator_http, cold, path, changes, says
):
    if not cold:
        await route_http(gateway, pod, pod_http)
    answer = await client.post(path, json=standard_body() | changes)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert not pod_http.requests
    assert not activator_http.requests


@pytest.mark.parametrize("extension", ["config", "stats"])
@pytest.mark.parametrize("version", ["", "/versions/1"])
async def test_what_only_triton_has_is_said_not_to_be_there(client, pod, gateway, pod_http, extension, version):
    path = f"/v2/models/{NAME}{version}/{extension}"
    for path_of in (path, path.replace(NAME, "nobody")):
        answer = await client.get(path_of)
        assert answer.status_code == 404
        assert answer.json()["error"].startswith(f"there is no {path_of} here; there are GET /v2,")
    await route_http(gateway, pod, pod_http)
    assert (await client.get(path)).status_code == 404
    assert not pod_http.requests


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/health/live"),
        ("GET", "/v2/health/ready"),
        ("GET", f"/v2/models/{NAME}"),
        ("GET", f"/v2/models/{NAME}/ready"),
        ("GET", f"/v2/models/{NAME}/versions/1"),
        ("GET", f"/v2/models/{NAME}/versions/1/ready"),
        ("POST", INFER),
        ("POST", f"/v2/models/{NAME}/versions/1/infer"),
        ("POST", f"/v2/models/{NAME}/generate"),
        ("POST", "/v2/repository/index"),
        ("POST", f"/v2/repository/models/{NAME}/load"),
    ],
)
@pytest.mark.parametrize("query", ["", "?a=/b/"])
async def test_a_closing_slash_means_nothing(client, pod, gateway, pod_http, activator_http, method, path, query):
    """Not even to the server behind, which would redirect: on the route of a loaded model, and to the activator."""
    for _ in ("cold", "hot"):
        bodies = {"json": standard_body()} if method == "POST" else {}
        without = await client.request(method, path + query, **bodies)
        closed = await client.request(method, path + "/" + query, **bodies)
        assert (closed.status_code, closed.json()) == (without.status_code, without.json())
        assert closed.status_code == 200
        assert "/?" not in closed.json()["path"]
        await route_http(gateway, pod, pod_http)


async def test_a_closing_slash_in_the_protobuf_form(client, pod):
    for path in (INFER + "/", f"/v2/models/{NAME}/versions/3/infer/"):
        assert (await client.post(path, json=protobuf_body())).json()["modelName"] == REVISION
    assert pod.requests[-1].model_version == "3"


async def test_head_is_for_what_the_mesh_answers(client, pod, gateway, pod_http):
    """Model servers have no HEAD, so it would mean one thing on a copy's route and another before there is one."""
    for _ in ("cold", "hot"):
        answer = await client.head(f"/v2/models/{NAME}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        await route_http(gateway, pod, pod_http)


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/health/ready/"])
async def test_health_is_told_at_once_when_the_mesh_is_down(path):
    async with running_gateway() as gateway, httpx.AsyncClient(base_url=gateway.rest, timeout=3) as client:
        answer = await client.get(path)
    assert answer.status_code == 503
    says = "the mesh does not answer: requests to models that are loaded are served, others wait until it is back"
    assert answer.json() == {"error": says}


async def test_the_standard_form_goes_to_the_activator_until_it_is_wanted(client, pod, activator_http):
    answer = await client.post(INFER, json=standard_body())
    assert answer.json() == {"server": "activator", "path": INFER}
    _, _, headers, body = activator_http.requests[-1]
    assert json.loads(body) == standard_body()
    assert asked_for(headers.items()) == RouteKey(NAME)
    assert "mm-model-id" not in headers


async def test_a_model_server_that_lost_the_model_is_made_good(client, pod, gateway, pod_http, activator_http):
    await route_http(gateway, pod, pod_http)
    pod_http.status = 404
    answer = await client.post(INFER, json=standard_body())
    assert answer.json() == {"server": "activator", "path": f"/v2/models/{REVISION}/infer"}
    _, _, headers, body = activator_http.requests[-1]
    assert json.loads(body) == standard_body()
    assert asked_for(headers.items()) == RouteKey(NAME)
    assert headers["x-envoy-attempt-count"] == "2"


async def test_the_activators_answer_is_final(client, pod, gateway, pod_http, activator_http):
    await route_http(gateway, pod, pod_http)
    pod_http.status = activator_http.status = 404
    activator_http.marks = "x-shoal-served: cold\r\n"
    answer = await client.post(INFER, json=standard_body())
    assert (answer.status_code, answer.json()["server"]) == (404, "activator")
    assert (len(pod_http.requests), len(activator_http.requests)) == (1, 1)
    pod.revisions = set()
    answer = await client.post(INFER, json=protobuf_body())
    assert (answer.status_code, answer.json()) == (404, {"error": "activator has no sklearn-mnist"})
    assert (len(pod.metadata), len(gateway.activator.metadata)) == (1, 1)


async def test_binary_tensors_pass(client, pod, gateway, pod_http):
    await route_http(gateway, pod, pod_http)
    head = json.dumps(
        {"inputs": [{"name": "a", "shape": [4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}]}
    ).encode()
    tensor = bytes(range(16))
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    answer = await client.post(INFER, content=head + tensor, headers=headers)
    assert answer.json()["server"] == "pod"
    assert pod_http.requests[-1][3] == head + tensor
    headers["inference-header-content-length"] = "99999"
    answer = await client.post(INFER, content=head + tensor, headers=headers)
    assert answer.status_code == 400
    assert "99999" in answer.json()["error"]


async def test_gzip_is_unpacked_and_other_encodings_are_refused(client, pod):
    body = gzip.compress(json.dumps(protobuf_body()).encode())
    answer = await client.post(INFER, content=body, headers={"content-encoding": "gzip"})
    assert answer.status_code == 200
    answer = await client.post(INFER, content=body, headers={"content-encoding": "br"})
    assert answer.status_code == 415
    assert "gzip" in answer.json()["error"]


async def test_a_body_that_is_not_gzip_or_is_cut_off_is_told(client, pod):
    plain = json.dumps(protobuf_body()).encode()
    answer = await client.post(INFER, content=plain, headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "content-encoding is gzip but the body is none; compress the body, or leave the header out",
    )
    long = json.dumps(protobuf_body() | {"id": random.Random(1).randbytes(50_000).hex()}).encode()
    answer = await client.post(INFER, content=gzip.compress(long)[:20_000], headers={"content-encoding": "gzip"})
    assert answer.status_code == 400
    assert answer.json()["error"].endswith(
        "; the body was unpacked, as content-encoding says: it may have been cut off"
    )
    answer = await client.post(INFER, content=b" ", headers={"x-shoal-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (400, "the body is empty")


@pytest.mark.parametrize(
    ("datatype", "words"),
    [
        ("FP16", "inputs[0] has the datatype FP16, which contents has no field for; send it in raw_input_contents"),
        ("FP99", "inputs[0] has the unknown datatype FP99; there are BOOL, INT8, "),
        ("INT64", "inputs[0] has the datatype INT64 but its values are in fp32_contents; use int64_contents"),
    ],
)
async def test_a_datatype_without_a_field_of_its_own_is_told_what_to_use(client, pod, datatype, words):
    body = protobuf_body()
    body["inputs"][0]["datatype"] = datatype
    answer = await client.post(INFER, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(words)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", "/v2/health/live"),
        ("HEAD", "/v2/health/ready"),
        ("GET", f"/v2/models/{NAME}/ready"),
        ("GET", f"/v2/models/{NAME}/versions/1/ready"),
        ("POST", "/v2/repository/index"),
        ("POST", f"/v2/repository/models/{NAME}/load"),
        ("POST", f"/v2/repository/models/{NAME}/unload"),
    ],
)
async def test_the_mesh_answers_for_itself(client, pod, activator_http, method, path):
    answer = await client.request(method, path)
    assert answer.status_code == 200
    assert activator_http.requests[-1][:2] == (method, path)


async def test_metadata_comes_from_the_model_server(client, pod, gateway, pod_http):
    await route_http(gateway, pod, pod_http)
    answer = await client.get(f"/v2/models/{NAME}")
    assert answer.json() == {"server": "pod", "path": f"/v2/models/{REVISION}"}
    answer = await client.get(f"/v2/models/{NAME}/versions/v1")
    assert answer.json()["path"] == f"/v2/models/{REVISION}/versions/v1"


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/", 404, "/v2/models/NAME/infer"),
        ("GET", "/v2/model/x", 404, "/v2/models/NAME/infer"),
        ("GET", INFER, 405, "POST"),
        ("POST", "/v2/health/live", 405, "GET"),
        ("POST", INFER, 400, "no body"),
        ("GET", "/v2/models/%zz", 400, "percent"),
        ("GET", '/a"b%22\\', 404, "there is no"),
    ],
)
async def test_wrong_routes_are_told_what_is_wrong(client, pod, method, path, status, says):
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "bad JSON"),
        ("[]", "must be an object"),
        (json.dumps({"inputs": []}), "inputs is empty"),
        (json.dumps({}), "no inputs"),
        (json.dumps(standard_body() | {"input": 1}), "unknown field input"),
        (json.dumps(protobuf_body(data=[1])), "both data and contents"),
        (json.dumps(protobuf_body(contents={"fp32_content": [1]})), "unknown field fp32_content"),
        (json.dumps(protobuf_body(datatype="INT64")), "int64_contents"),
        (json.dumps({"inputs": [{"name": "a", "shape": [1], "datatype": "FP32"}]}), "inputs[0] has neither data"),
        (json.dumps({"inputs": protobuf_body()["inputs"] + standard_body()["inputs"]}), "inputs[1] has data"),
        (json.dumps(protobuf_body() | {"model_name": "other"}), "model_name is other but the path names"),
        (json.dumps(protobuf_body(contents={"fp32_contents": ["x"]})), "x"),
    ],
)
async def test_bad_bodies_are_told_what_is_wrong(client, pod, body, says):
    answer = await client.post(INFER, content=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert not pod.requests


async def test_headers_must_not_contradict_the_path(client, pod):
    answer = await client.post(INFER, json=protobuf_body(), headers={"mm-vmodel-id": "other"})
    assert answer.status_code == 400
    assert "the path names sklearn-mnist but the header names other" in answer.json()["error"]


async def test_too_large_bodies_are_refused_with_the_limit(client, pod):
    answer = await client.post(INFER, content=b" " * (17 << 20))
    assert answer.status_code == 413
    assert answer.json() == {"error": "the body is larger than 16777216 bytes, the limit of this gateway"}


async def test_a_large_body_in_the_protobuf_form(client, pod):
    body = protobuf_body(shape=[1_000_000], contents={"fp32_contents": [0.5] * 1_000_000})
    answer = await client.post(INFER, json=body)
    assert answer.status_code == 200
    assert len(pod.requests[-1].inputs[0].contents.fp32_contents) == 1_000_000


async def test_one_connection_serves_many_requests(client, pod):
    for _ in range(20):
        assert (await client.post(INFER, json=protobuf_body())).status_code == 200
    assert oip.ModelInferRequest is type(pod.requests[-1])
