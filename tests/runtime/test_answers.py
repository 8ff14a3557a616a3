"""The form of answers over gRPC: plain for clients that name no content type, MLServer's own for those that do."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlserver.codecs import NumpyCodec, NumpyRequestCodec, StringCodec
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, TensorData

from shoal_protos import inference
from shoal_runtime.mlserver.answers import asks_content_type, with_numbers, without_default_content_types
from support.runtime import Pod, model_key

REVISION = "sklearn-mnist__isvc-3c10c62d34"


def mnist_request(row: list[float]) -> Any:
    request = inference.ModelInferRequest(model_name=REVISION)
    request.inputs.add(name="predict", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend(row)
    return request


@pytest.fixture(scope="module")
def expected(trained: Path) -> dict:
    return json.loads((trained / "expected.json").read_text())


@pytest.mark.server
async def test_the_answer_of_the_mnist_example_has_exactly_the_documented_fields(pod: Pod, expected: dict) -> None:
    await pod.load(REVISION, "mnist-svm.joblib")
    answer = await pod.method("ModelInfer")(mnist_request(expected["rows"][0]))
    documented = inference.ModelInferResponse(model_name=REVISION)
    output = documented.outputs.add(name="predict", datatype="INT64", shape=[1, 1])
    output.contents.int64_contents.extend(expected["sklearn"][:1])
    assert answer == documented


@pytest.mark.server
async def test_batched_answers_have_the_same_form(pod: Pod, expected: dict) -> None:
    await pod.load(REVISION, "mnist-svm.joblib", model_key(**{"shoal.max_batch_size": "8"}))
    infer = pod.method("ModelInfer")
    answers = await asyncio.gather(*(infer(mnist_request(row)) for row in expected["rows"]))
    assert [list(answer.outputs[0].contents.int64_contents) for answer in answers] == [[n] for n in expected["sklearn"]]
    assert not any(answer.outputs[0].parameters for answer in answers)


@pytest.mark.server
async def test_raw_requests_get_raw_answers_without_content_type(pod: Pod, expected: dict) -> None:
    await pod.load(REVISION, "mnist-svm.joblib")
    request = inference.ModelInferRequest(model_name=REVISION)
    request.inputs.add(name="predict", datatype="FP32", shape=[1, 64])
    request.raw_input_contents.append(np.array(expected["rows"][0], np.float32).tobytes())
    answer = await pod.method("ModelInfer")(request)
    assert list(np.frombuffer(answer.raw_output_contents[0], np.int64)) == expected["sklearn"][:1]
    assert not answer.outputs[0].parameters


@pytest.mark.server
@pytest.mark.parametrize("raw", [False, True])
async def test_mlservers_own_codecs_send_and_read_as_ever(pod: Pod, expected: dict, raw: bool) -> None:
    await pod.load(REVISION, "mnist-svm.joblib")
    rows = np.array(expected["rows"], np.float32)
    payload = NumpyRequestCodec.encode_request(rows)
    sent = ModelInferRequestConverter.from_types(payload, model_name=REVISION, use_raw=raw)
    answer = await pod.method("ModelInfer")(inference.ModelInferRequest.FromString(sent.SerializeToString()))
    assert answer.outputs[0].parameters["content_type"].string_param == "np"
    read = ModelInferResponseConverter.to_types(answer)
    assert NumpyRequestCodec.decode_response(read).ravel().tolist() == expected["sklearn"]


async def test_mlservers_codecs_read_answers_without_content_type() -> None:
    output = NumpyCodec.encode_output("o", np.array([[1, 2]]))
    plain = without_default_content_types(InferenceResponse(model_name="m", outputs=[output]))
    assert plain.outputs[0].parameters is None
    assert NumpyRequestCodec.decode_response(plain).tolist() == [[1, 2]]


def test_only_what_every_numeric_tensor_has_is_dropped() -> None:
    text = StringCodec.encode_output("text", ["a"])
    letters = NumpyCodec.encode_output("letters", np.array(["a"]))
    more = NumpyCodec.encode_output("more", np.array([1]))
    more.parameters = Parameters(content_type="np", unit="cm")
    none = NumpyCodec.encode_output("none", np.array([1]))
    none.parameters = None
    response = InferenceResponse(model_name="m", outputs=[text, letters, more, none])
    kept = [
        output.parameters and output.parameters.model_dump()
        for output in without_default_content_types(response).outputs
    ]
    assert kept == [{"content_type": "str"}, {"content_type": "np"}, {"unit": "cm"}, None]


def request(**where: Any) -> InferenceRequest:
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
    return InferenceRequest.model_validate(
        {"inputs": [tensor | where.pop("input", {})], "outputs": [{"name": "o"} | where.pop("output", {})], **where}
    )


@pytest.mark.parametrize("place", ["input", "output", "parameters"])
def test_a_content_type_anywhere_in_the_request_is_noticed(place: str) -> None:
    asked = {"content_type": "np"}
    assert asks_content_type(request(**{place: asked if place == "parameters" else {"parameters": asked}}))
    other = {"headers": {"x": "y"}}
    assert not asks_content_type(request(**{place: other if place == "parameters" else {"parameters": other}}))


def test_none_of_the_codec_is_nan_again() -> None:
    outputs = [NumpyCodec.encode_output("f", np.array([np.nan, np.inf])), StringCodec.encode_output("t", ["a"])]
    outputs[1].data = TensorData(root=[None])
    answer = with_numbers(InferenceResponse(model_name="m", outputs=outputs))
    assert np.array_equal(answer.outputs[0].data.root, [np.nan, np.inf], equal_nan=True)
    assert answer.outputs[1].data.root == [None]
