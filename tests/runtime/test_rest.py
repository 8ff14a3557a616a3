"""Inference over the model server's REST port: JSON, binary tensors, and errors that name what is wrong."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from shoal_protos import inference
from support.runtime import HOST, Pod, model_key, refused

pytestmark = pytest.mark.server

HEADER = "Inference-Header-Content-Length"
ECHO = '''
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput


class Echo(MLModel):
    """Answers its inputs, and says what form they came in."""

    async def predict(self, payload):
        assert all(isinstance(tensor.data.root, list) for tensor in payload.inputs)
        if payload.id == "break":
            raise RuntimeError("broken on purpose")
        outputs = [
            ResponseOutput(name=t.name, shape=t.shape, datatype=t.datatype, data=t.data) for t in payload.inputs
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
'''
TENSORS = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([[-(2**31)], [2**31 - 1]], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([1.5, -0.0, np.inf], np.float16),
    "FP32": np.array([1.1, np.nan, -3e38], np.float32),
    "FP64": np.array([[1e300, 5e-324]], np.float64),
    "BYTES": np.array([b"\xff\x00", b"", "grüße".encode()], np.object_),
}


@pytest.fixture
async def url(pod: Pod, expected: dict) -> str:
    """The base address of a server with two models: `echo`, and `m` of scikit-learn."""
    folder = pod.claim / "echo"
    folder.mkdir(exist_ok=True)
    (folder / "echoing.py").write_text(ECHO)
    (folder / "model-settings.json").write_text(json.dumps({"implementation": "echoing.Echo"}))
    await pod.load("echo", "echo", model_key("custom"))
    await pod.load("m", "mnist-svm.joblib")
    return f"{HOST}:{pod.ports['http']}"


@pytest.fixture(scope="module")
def expected(trained: Path) -> dict:
    return json.loads((trained / "expected.json").read_text())


async def post(url: str, body: Any, model: str = "echo", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post(f"http://{url}/v2/models/{model}/infer", content=content, headers=headers)


def triton_inputs(binary: bool, names: Any = TENSORS) -> list[Any]:
    inputs = []
    for name in names:
        tensor = triton.InferInput(name, list(TENSORS[name].shape), name)
        tensor.set_data_from_numpy(TENSORS[name], binary_data=binary)
        inputs.append(tensor)
    return inputs


def same(answer: Any, names: Any = TENSORS) -> bool:
    return all(
        np.array_equal(answer.as_numpy(name), TENSORS[name], equal_nan=TENSORS[name].dtype.kind == "f")
        and answer.as_numpy(name).dtype == TENSORS[name].dtype
        for name in names
    )


async def test_tritons_client_sends_and_reads_every_datatype_as_bytes(url: str) -> None:
    def ask() -> Any:
        client = triton.InferenceServerClient(url)
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        return client.infer("echo", triton_inputs(True)), client.infer(
            "echo", triton_inputs(True), request_compression_algorithm="gzip", response_compression_algorithm="gzip"
        )

    plain, squeezed = await asyncio.to_thread(ask)
    assert same(plain)
    assert same(squeezed)


async def test_outputs_are_bytes_only_where_they_are_asked_for_so(url: str) -> None:
    def ask() -> Any:
        client = triton.InferenceServerClient(url)
        outputs = [
            triton.InferRequestedOutput("INT64", binary_data=True),
            triton.InferRequestedOutput("FP64", binary_data=False),
        ]
        return client.infer("echo", triton_inputs(True, ("INT64", "FP64")), outputs=outputs)

    answer = await asyncio.to_thread(ask)
    assert same(answer, ("INT64", "FP64"))
    parameters = {output["name"]: output.get("parameters") for output in answer.get_response()["outputs"]}
    assert parameters == {"INT64": {"binary_data_size": 16}, "FP64": None}


async def test_json_in_may_ask_for_bytes_out_and_the_other_way_round(url: str) -> None:
    def ask() -> Any:
        client = triton.InferenceServerClient(url)
        outputs = [triton.InferRequestedOutput("INT8", binary_data=False)]
        into_json = client.infer("echo", triton_inputs(True, ("INT8",)), outputs=outputs)
        return client.infer("echo", triton_inputs(False, ("INT8",))), into_json

    into_bytes, into_json = await asyncio.to_thread(ask)
    assert same(into_bytes, ("INT8",))
    assert into_json.get_response()["outputs"][0]["data"] == [-128, 127]


async def test_a_real_model_answers_binary_and_batched_requests_right(pod: Pod, url: str, expected: dict) -> None:
    await pod.load("batched", "mnist-svm.joblib", model_key(**{"shoal.max_batch_size": "8"}))

    def ask(model: str, row: list[float]) -> int:
        client = triton.InferenceServerClient(url)
        tensor = triton.InferInput("x", [1, 64], "FP32")
        tensor.set_data_from_numpy(np.array([row], np.float32))
        return int(client.infer(model, [tensor]).as_numpy("predict")[0, 0])

    for model in ("m", "batched"):
        answers = await asyncio.gather(*(asyncio.to_thread(ask, model, row) for row in expected["rows"]))
        assert answers == expected["sklearn"]


async def test_json_is_answered_as_stock_mlserver_answers_it(own_pod: Pod, expected: dict) -> None:
    requests: list[Any] = [
        {"id": "7", "inputs": [{"name": "x", "shape": [2, 64], "datatype": "FP32", "data": expected["rows"][:2]}]},
        {
            "parameters": {"content_type": "np"},
            "inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": expected["rows"][0]}],
            "outputs": [{"name": "predict"}],
        },
    ]
    answers = []
    for stock in (True, False):
        own_pod.start_server(stock=stock)
        adapter = own_pod.start_adapter()
        await own_pod.ready()
        await own_pod.load("m", "mnist-svm.joblib")
        url = f"{HOST}:{own_pod.ports['http']}"
        answers.append([(await post(url, body, "m")).text for body in requests])
        adapter.stop()
        assert own_pod.server is not None
        own_pod.server.kill()
    plain, typed = zip(*answers, strict=True)
    assert typed[0].partition('"id"')[0] == typed[1].partition('"id"')[0]
    assert '"content_type":"np"' in typed[1]
    assert plain[0].replace('"parameters":{"content_type":"np"},', "") == plain[1]


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2], **changes}


def binary(size: Any, **changes: Any) -> dict[str, Any]:
    made = tensor(parameters={"binary_data_size": size}, **changes)
    if "data" not in changes:
        del made["data"]
    return made


@pytest.mark.parametrize(
    ("inputs", "tail", "part"),
    [
        ([binary(9)], b"x" * 9, "inputs[0].parameters.binary_data_size: 9 bytes, but FP32 of shape [2] takes 8"),
        ([binary(8), binary(8)], b"x" * 12, "inputs[1].parameters.binary_data_size: 8 bytes, but only 4 are left"),
        ([binary(8)], b"x" * 10, "take 8 of the 10 bytes"),
        ([binary(-1)], b"", "inputs[0].parameters.binary_data_size: -1"),
        ([binary("8")], b"x" * 8, "inputs[0].parameters.binary_data_size: '8'"),
        ([binary(True)], b"x", "inputs[0].parameters.binary_data_size: True"),
        ([binary(8, data=[1, 2])], b"x" * 8, "inputs[0].parameters.binary_data_size: the tensor has `data` as well"),
        ([binary(8, shape=[-2])], b"x" * 8, "inputs[0].shape"),
        ([binary(8, datatype="FP33")], b"x" * 8, "inputs[0].datatype"),
        ([binary(6, datatype="BYTES", shape=[1])], b"\x09\0\0\0ab", "end within element 0"),
        ([binary(3, datatype="BYTES", shape=[1])], b"\x09\0\0", "end within element 0"),
        ([binary(5, datatype="BYTES")], b"\x01\0\0\0a", "inputs[0].shape: 2 elements, but 1 came"),
    ],
)
async def test_malformed_binary_tensors_are_refused_by_field(url: str, inputs: Any, tail: bytes, part: str) -> None:
    head = json.dumps({"inputs": inputs}).encode()
    answer = await post(url, head + tail, **{HEADER: str(len(head))})
    assert answer.status_code == 400
    assert part in answer.json()["error"]


@pytest.mark.parametrize("length", ["999999", "-1", "ten", ""])
async def test_a_header_length_that_is_no_part_of_the_body_is_refused(url: str, length: str) -> None:
    answer = await post(url, {"inputs": [tensor()]}, **{HEADER: length})
    assert answer.status_code == 400
    assert HEADER in answer.json()["error"]


@pytest.mark.parametrize(
    ("model", "body", "part"),
    [
        ("echo", b"{", "not JSON"),
        ("echo", b"[" * 100_000, "not JSON"),
        ("echo", [], "JSON object"),
        ("echo", {}, "inputs: Field required"),
        ("echo", {"inputs": [tensor(datatype="FP33")]}, "inputs[0].datatype"),
        ("echo", {"inputs": [tensor(), {"name": "y"}]}, "inputs[1].shape"),
        ("echo", {"inputs": [tensor()], "parameters": {"binary_data_output": "yes"}}, "parameters.binary_data_output"),
        ("m", {"inputs": [tensor(shape=[1, 64])]}, "shape [1, 64] needs 64 values, its data has 2"),
        ("m", {"inputs": [tensor(shape=[1, 2])]}, "2 features"),
        ("m", {"inputs": [tensor(shape=[2])]}, "Expected 2D array"),
        ("m", {"inputs": [tensor(shape=[1, 2], data=["a", "b"])]}, "value 0 is 'a', but FP32 takes numbers"),
        ("m", {"inputs": []}, "0 were received"),
        ("m", {"inputs": [tensor()], "outputs": [{"name": "transform"}]}, "transform"),
    ],
)
async def test_a_wrong_json_request_is_told_what_is_wrong(url: str, model: str, body: Any, part: str) -> None:
    answer = await post(url, body, model)
    assert (answer.status_code, part in answer.json()["error"]) == (400, True), answer.text


async def test_errors_outside_of_inference_have_the_protocols_form_too(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False, base_url=f"http://{url}") as client:
        absent = await client.get("/v2/nothing")
        wrong_method = await client.get("/v2/models/m/infer")
        wrong_body = await client.post("/v2/repository/index", content=b"{")
        broken = await client.post("/v2/models/echo/infer", json={"id": "break", "inputs": [tensor()]})
        unknown = await client.post("/v2/models/unknown/infer", json={"inputs": [tensor()]})
    assert (absent.status_code, absent.json()) == (404, {"error": "GET /v2/nothing: Not Found"})
    assert (wrong_method.status_code, "Not Allowed" in wrong_method.json()["error"]) == (405, True)
    assert (wrong_body.status_code, list(wrong_body.json())) == (400, ["error"])
    assert (broken.status_code, broken.json()) == (500, {"error": "RuntimeError: broken on purpose"})
    assert (unknown.status_code, unknown.json()) == (404, {"error": "Model unknown not found"})


async def test_text_that_json_cannot_hold_says_how_to_ask_for_it(url: str) -> None:
    body = json.dumps({"inputs": [binary(6, datatype="BYTES", shape=[1])]}).encode()
    answer = await post(url, body + b"\x02\0\0\0\xff\xff", **{HEADER: str(len(body))})
    assert answer.status_code == 400
    assert "binary_data" in answer.json()["error"]


async def test_wrong_shapes_are_the_clients_fault_over_grpc_as_well(pod: Pod, url: str) -> None:
    code, message = await refused(pod.infer("m", [[1.0, 2.0]]))
    assert (code.name, "2 features" in message) == ("INVALID_ARGUMENT", True)
    request = inference.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend([1.0])
    code, message = await refused(pod.method("ModelInfer")(request))
    assert (code.name, "needs 64 values" in message) == ("INVALID_ARGUMENT", True)
