"""Standard V2 bodies to protobuf and back, for model servers that only speak gRPC."""

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.mesh.rest import BadBodyError, binary_outputs, from_protobuf, to_protobuf
from shoal_protos import inference as oip


def body(**changes):
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1.0, 2.0], [3.0, 4.0]]}
    return json.dumps({"inputs": [tensor | changes]}).encode()


@pytest.mark.parametrize("data", [[[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0, 3.0, 4.0]])
def test_nested_and_flat_data_are_the_same(data):
    message = to_protobuf(body(data=data), None, "m__isvc-1")
    assert message.model_name == "m__isvc-1"
    assert message.raw_input_contents[0] == struct.pack("<4f", 1, 2, 3, 4)


def test_binary_tensors_follow_the_json():
    raw = struct.pack("<2q", 7, -1)
    head = json.dumps(
        {
            "id": "42",
            "inputs": [
                {"name": "x", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16, "k": 1.5}}
            ],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    ).encode()
    message = to_protobuf(head + raw, len(head), "m")
    assert message.raw_input_contents[0] == raw
    assert message.id == "42"
    assert message.inputs[0].parameters["k"].double_param == 1.5
    assert "binary_data_size" not in message.inputs[0].parameters
    assert binary_outputs(message) == {"y"}


@given(st.lists(st.text(max_size=20), max_size=8))
def test_strings_come_back(values):
    message = to_protobuf(body(datatype="BYTES", shape=[len(values)], data=values), None, "m")
    response = oip.ModelInferResponse(model_name="m")
    response.outputs.add(name="y", datatype="BYTES", shape=[len(values)])
    response.raw_output_contents.append(message.raw_input_contents[0])
    answer, header = from_protobuf(response, frozenset())
    assert header is None
    assert json.loads(answer)["outputs"][0]["data"] == values


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8))
def test_typed_and_raw_answers_are_the_same(values):
    typed, raw = oip.ModelInferResponse(), oip.ModelInferResponse()
    for response in (typed, raw):
        response.outputs.add(name="y", datatype="INT64", shape=[len(values)])
    typed.outputs[0].contents.int64_contents.extend(values)
    raw.raw_output_contents.append(struct.pack(f"<{len(values)}q", *values))
    assert from_protobuf(typed, frozenset()) == from_protobuf(raw, frozenset())
    assert from_protobuf(typed, None) == from_protobuf(raw, None)


@pytest.mark.parametrize(("datatype", "code"), [("FP16", "e"), ("FP32", "f"), ("FP64", "d")])
def test_null_is_nan_and_what_json_lacks_is_null(datatype, code):
    message = to_protobuf(body(datatype=datatype, data=[None, 1, 2.5, -1]), None, "m")
    sent = struct.unpack(f"<4{code}", message.raw_input_contents[0])
    assert math.isnan(sent[0])
    assert sent[1:] == (1, 2.5, -1)
    response = oip.ModelInferResponse(model_name="m")
    response.outputs.add(name="y", datatype=datatype, shape=[4])
    response.raw_output_contents.append(struct.pack(f"<4{code}", math.nan, math.inf, -math.inf, 0.5))
    answer, _ = from_protobuf(response, frozenset())
    assert json.loads(answer, parse_constant=pytest.fail)["outputs"][0]["data"] == [None, None, None, 0.5]
    binary, length = from_protobuf(response, None)
    assert binary[length:] == response.raw_output_contents[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "inputs: must be a list"),
        (b'{"inputs": [], "inptus": 1}', "inptus: unknown field"),
        (body(data=[1.0]), r"inputs\[0\].data: 1 values, the shape needs 4"),
        (body(datatype="FP99"), r"inputs\[0\].datatype: 'FP99' is unknown"),
        (body(shape=[2, -1]), r"inputs\[0\].shape: must be"),
        (body(shape=[True, 4]), r"inputs\[0\].shape: must be"),
        (body(data=["a", "b", "c", "d"]), r"inputs\[0\].data: \"a\" is no FP32; values are not"),
        (body(data=[True] * 4), r"inputs\[0\].data: true is no FP32"),
        (body(data=[1e39] * 4), r"inputs\[0\].data: a value is no FP32"),
        (body(datatype="BOOL", data=[1] * 4), r"inputs\[0\].data: 1 is no BOOL"),
        (body(datatype="INT64", data=[1.5] * 4), r"inputs\[0\].data: 1.5 is no INT64"),
        (body(datatype="INT64", data=[None] * 4), r"inputs\[0\].data: null is no INT64"),
        (body(datatype="INT8", data=[300] * 4), r"inputs\[0\].data: a value is no INT8"),
        (body(datatype="BYTES", data=[1] * 4), r"inputs\[0\].data: 1 is no BYTES"),
        (body(data=[float("nan")] * 4), "NaN is no JSON; write null for NaN, and send infinities as binary tensors"),
        (body(contents={"fp32_contents": []}), r"inputs\[0\].contents: unknown field"),
        (body(parameters={"binary_data_size": 4}), "needs either data or"),
        (body(parameters={"k": [1]}), r"inputs\[0\].parameters.k: must be"),
        (body(name=3), r"inputs\[0\].name: must be a string"),
    ],
)
def test_bad_bodies_name_the_field(text, problem):
    with pytest.raises(BadBodyError, match=problem):
        to_protobuf(text, None, "m")


@pytest.mark.parametrize(
    ("size", "tail", "problem"),
    [
        (8, b"1234", "4 bytes are left"),
        (4, b"12345678", "4 bytes follow the last tensor"),
        (3, b"123", "needs 8 bytes"),
    ],
)
def test_binary_sizes_must_fit(size, tail, problem):
    head = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": size}}]}
    ).encode()
    if problem.startswith("4 bytes follow"):
        head = head.replace(b"[2]", b"[1]")
    with pytest.raises(BadBodyError, match=problem):
        to_protobuf(head + tail, len(head), "m")


def repeating(**named):
    return json.dumps(json.loads(body()) | named).encode()


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_body_may_repeat_name_and_version_of_the_path(nothing):
    text = repeating(model_name="digits", model_version="3")
    message = to_protobuf(text, None, "digits__isvc-1", name="digits", version="3")
    assert (message.model_name, message.model_version) == ("digits__isvc-1", "3")
    assert to_protobuf(text, None, "digits__isvc-1", version="3").model_name == "digits__isvc-1"
    empty = repeating(model_name=nothing, model_version=nothing)
    assert to_protobuf(empty, None, "m", name="digits", version="3").model_version == "3"


@pytest.mark.parametrize(
    ("named", "version", "problem"),
    [
        ({"model_name": "other"}, "", "model_name: other, but the path names digits; leave it out"),
        ({"model_name": 1}, "", "model_name: must be a string"),
        ({"model_version": "3"}, "", "model_version: 3, but the path has none; leave it out"),
        ({"model_version": "3"}, "2", "model_version: 3, but the path names 2; leave it out"),
    ],
)
def test_a_body_that_contradicts_its_path_is_refused(named, version, problem):
    with pytest.raises(BadBodyError, match=problem):
        to_protobuf(repeating(**named), None, "digits__isvc-1", name="digits", version=version)
