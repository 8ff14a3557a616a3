"""REST at the activator, for models whose server speaks gRPC only: its routes mean what the gateway's mean."""

import httpx
import pytest

from shoal_protos import inference as oip
from shoal_protos.mmesh import model_mesh_pb2 as pb
from support.mesh import Client, model_info

pytestmark = pytest.mark.server
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}


@pytest.fixture
async def rest(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    spec = model_info("one", versions=["1"])
    await world.management.registerModel(pb.RegisterModelRequest(modelId="one", modelInfo=spec))
    await world.management.setVModel(pb.SetVModelRequest(vModelId="digits", targetModelId="one"))
    async with httpx.AsyncClient(base_url=f"http://{world.subnet}.1:18008", timeout=20) as client:
        yield client


@pytest.mark.parametrize(("version", "status"), [("1", 200), ("2", 404)])
async def test_a_version_means_the_same_on_every_route(world, rest, version, status):
    versioned = f"/v2/models/digits/versions/{version}"
    answers = [
        await rest.get(versioned + "/ready"),
        await rest.get(versioned),
        await rest.post(versioned + "/infer", json=BODY),
        await rest.post(versioned + "/infer", json=BODY | {"model_name": "digits", "model_version": version}),
    ]
    assert [answer.status_code for answer in answers] == [status] * 4
    if status == 404:
        assert {answer.json()["error"] for answer in answers} == {"one has no version 2"}
    call = world.client.channel.unary_unary(
        oip.method_path("ModelReady"), lambda m: m.SerializeToString(), oip.ModelReadyResponse.FromString
    )
    assert (await call(oip.ModelReadyRequest(name="digits", version=version))).ready == (status == 200)


async def test_a_body_that_contradicts_its_path_is_refused(rest):
    answer = await rest.post("/v2/models/digits/infer", json=BODY | {"model_name": "other"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "model_name: other, but the path names digits; leave it out or make them agree"}
    by_revision = {"mm-revision": "one"}
    answer = await rest.post("/v2/models/any/infer", json=BODY | {"model_name": "other"}, headers=by_revision)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("raw", "status", "problem"),
    [
        ("01000000ff", 400, "output answer is not text; ask for it with the parameter binary_data"),
        ("09000000ff", 500, "the model server's answer cannot be read: output answer: its BYTES are cut short"),
    ],
)
async def test_an_answer_that_json_cannot_hold_is_told(world, rest, raw, status, problem):
    info = model_info("", raw=raw)
    await world.management.registerModel(pb.RegisterModelRequest(modelId="odd", modelInfo=info))
    answer = await rest.post("/v2/models/odd/infer", json=BODY, headers={"mm-model-id": "odd"})
    assert (answer.status_code, answer.json()) == (status, {"error": problem})
    binary = BODY | {"parameters": {"binary_data_output": True}}
    answer = await rest.post("/v2/models/odd/infer", json=binary, headers={"mm-model-id": "odd"})
    length = int(answer.headers["inference-header-content-length"])
    assert answer.content[length:] == bytes.fromhex(raw)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/digits/config", 404),
        ("GET", "/v2/models/digits/infer", 405),
        ("POST", "/v2/models/digits/infer_stream", 501),
        ("POST", "/v2/models/digits/generate_stream", 501),
    ],
)
async def test_every_refusal_is_final(rest, method, path, status):
    """Unless it is marked so, a gateway that was sent here by a copy's failure asks again, for seconds."""
    answer = await rest.request(method, path, json=BODY if method == "POST" else None)
    assert (answer.status_code, answer.headers["x-shoal-served"]) == (status, "cold")
    assert answer.json()["error"]


@pytest.mark.parametrize("method", ["ModelConfig", "ModelStatistics"])
async def test_what_only_triton_has_is_unimplemented(world, rest, method):
    client = Client(f"{world.subnet}.1:18033")
    with pytest.raises(Exception, match=f"no {method} here; a model's server may have it") as caught:
        await client.channel.unary_unary(oip.method_path(method))(b"\x0a\x06digits")
    assert caught.value.code().name == "UNIMPLEMENTED"
    await client.close()
