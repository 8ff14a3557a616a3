"""NaN and infinities go through unchanged, in and out, in every form that has them; in JSON they are null."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from shoal_protos import inference
from support.runtime import HOST, Pod, model_key

pytestmark = pytest.mark.server

ODD = '''
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Odd(MLModel):
    """Answers its inputs as numpy has them, which is how models of libraries answer."""

    async def predict(self, payload):
        outputs = [NumpyCodec.encode_output(t.name, NumpyCodec.decode_input(t)) for t in payload.inputs]
        return InferenceResponse(model_name=self.name, outputs=outputs)
'''
VALUES = [float("nan"), float("inf"), float("-inf"), -0.0, 1.5]
TYPES = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
CONTENTS = {"FP32": "fp32_contents", "FP64": "fp64_contents"}


@pytest.fixture
async def odd(pod: Pod) -> str:
    folder = pod.claim / "odd"
    folder.mkdir(exist_ok=True)
    (folder / "odd.py").write_text(ODD)
    (folder / "model-settings.json").write_text(json.dumps({"implementation": "odd.Odd"}))
    await pod.load("odd", "odd", model_key("custom"))
    return "odd"


async def post(pod: Pod, model: str, body: bytes, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://{HOST}:{pod.ports['http']}/v2/models/{model}/infer"
        return await client.post(url, content=body, headers=headers)


def same(found: Any) -> bool:
    return np.array_equal(np.asarray(found, np.float64).ravel(), VALUES, equal_nan=True)


@pytest.mark.parametrize("datatype", CONTENTS)
async def test_typed_contents(pod: Pod, odd: str, datatype: str) -> None:
    request = inference.ModelInferRequest(model_name=odd)
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[5, 1])
    getattr(tensor.contents, CONTENTS[datatype]).extend(VALUES)
    answer = await pod.method("ModelInfer")(request)
    assert same(getattr(answer.outputs[0].contents, CONTENTS[datatype]))


@pytest.mark.parametrize("datatype", TYPES)
async def test_raw_contents(pod: Pod, odd: str, datatype: str) -> None:
    request = inference.ModelInferRequest(model_name=odd)
    request.inputs.add(name="x", datatype=datatype, shape=[5, 1])
    request.raw_input_contents.append(np.array(VALUES, TYPES[datatype]).tobytes())
    answer = await pod.method("ModelInfer")(request)
    assert same(np.frombuffer(answer.raw_output_contents[0], TYPES[datatype]))


async def test_half_floats_are_raw_also_for_clients_that_send_typed_contents(pod: Pod, odd: str) -> None:
    request = inference.ModelInferRequest(model_name=odd)
    request.inputs.add(name="n", datatype="INT64", shape=[1, 1]).contents.int64_contents.append(7)
    answer = await pod.method("ModelInfer")(request)
    assert list(answer.outputs[0].contents.int64_contents) == [7]
    await pod.load("half", await half(pod), model_key("custom"))
    request.model_name = "half"
    answer = await pod.method("ModelInfer")(request)
    assert [output.datatype for output in answer.outputs] == ["INT64", "FP16"]
    assert np.frombuffer(answer.raw_output_contents[1], np.float16).tolist() == [0.5]
    assert np.frombuffer(answer.raw_output_contents[0], np.int64).tolist() == [7]
    assert not any(output.contents.ByteSize() for output in answer.outputs)


async def half(pod: Pod) -> str:
    folder = pod.claim / "half"
    folder.mkdir(exist_ok=True)
    more = 'outputs += [NumpyCodec.encode_output("h", np.array([0.5], np.float16))]\n        return '
    (folder / "halving.py").write_text(ODD.replace("return ", more))
    (folder / "model-settings.json").write_text(json.dumps({"implementation": "halving.Odd"}))
    return "half"


@pytest.mark.parametrize("datatype", TYPES)
async def test_binary_tensors(pod: Pod, odd: str, datatype: str) -> None:
    content = np.array(VALUES, TYPES[datatype]).tobytes()
    tensor = {"name": "x", "shape": [5, 1], "datatype": datatype, "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = await post(pod, odd, head + content, **{"Inference-Header-Content-Length": str(len(head))})
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    assert same(np.frombuffer(answer.content[length:], TYPES[datatype]))


@pytest.mark.parametrize("datatype", TYPES)
async def test_json_has_null_for_all_three(pod: Pod, odd: str, datatype: str) -> None:
    """As KServe's and MLServer's own servers, whose JSON is written by orjson."""
    content = np.array(VALUES, TYPES[datatype]).tobytes()
    tensor = {"name": "x", "shape": [5, 1], "datatype": datatype, "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    answer = await post(pod, odd, head + content, **{"Inference-Header-Content-Length": str(len(head))})
    assert answer.json()["outputs"][0]["data"] == [None, None, None, -0.0, 1.5]
    sent = {"name": "x", "shape": [5, 1], "datatype": datatype, "data": [None, 0, 1, 2.5, -1]}
    answer = await post(pod, odd, json.dumps({"inputs": [sent]}).encode())
    assert answer.json()["outputs"][0]["data"] == [None, 0, 1, 2.5, -1]
