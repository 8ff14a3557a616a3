"""Standard V2 bodies to protobuf and back, for model servers that only speak gRPC."""

import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.oip.answers import UnreadableAnswerError
from shoal.oip.datatypes import DATATYPES
from shoal.oip.rest import BadBodyError, NotTextError, binary_outputs, from_protobuf, to_protobuf
from shoal.oip.tensors import unpack
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


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=8))
def test_strings_come_back(values):
    message = to_protobuf(body(datatype="BYTES", shape=[len(values)], data=values), None, "m")
    response = oip.ModelInferResponse(model_name="m")
    response.outputs.add(name="y", datatype="BYTES", shape=[len(values)])
    response.raw_output_contents.append(message.raw_input_contents[0])
    answer, header = from_protobuf(response, frozenset())
    assert header is None
    assert json.loads(answer)["outputs"][0]["data"] == values


@settings(deadline=None)
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


def elements_of(name):
    """Elements of a datatype that are the same in JSON and in its bytes."""
    datatype = DATATYPES[name]
    if name == "BF16":
        return st.none() | st.sampled_from([0.0, 1.5, -2.0, 2.0**127])
    if datatype.floating:
        return st.none() | st.floats(width=8 * datatype.size, allow_nan=False, allow_infinity=False)
    return {"BOOL": st.booleans(), "BYTES": st.text(max_size=9)}.get(name, st.integers(datatype.low, datatype.high))


@pytest.mark.parametrize("name", DATATYPES)
@settings(deadline=None)
@given(data=st.data())
def test_json_comes_back_from_protobuf(name, data):
    values = data.draw(st.lists(elements_of(name), max_size=8))
    message = to_protobuf(body(datatype=name, shape=[len(values)], data=[values]), None, "m")
    raw, typed = oip.ModelInferResponse(raw_output_contents=message.raw_input_contents), oip.ModelInferResponse()
    for response in (raw, typed) if DATATYPES[name].contents else (raw,):
        output = response.outputs.add(name="y", datatype=name, shape=[len(values)])
        if response is typed:
            elements = unpack(DATATYPES[name], message.raw_input_contents[0])
            getattr(output.contents, DATATYPES[name].contents).extend(elements)
        text, _ = from_protobuf(response, frozenset())
        assert json.loads(text, parse_constant=pytest.fail)["outputs"][0]["data"] == values
        binary, length = from_protobuf(response, None)
        assert binary[length:] == message.raw_input_contents[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[" * 100_000, "not JSON"),
        (b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1e400]}]}', "a value is no FP64: inf"),
        (body(datatype="FP64", data=[10**400] * 4), "a value is no FP64: 1000"),
        (body(datatype="FP16", data=[65510] * 4), "a value is no FP16: 65510 is out of range"),
        (body(datatype="BYTES", data=["\ud800"] * 4), "a value is no BYTES"),
        (body(datatype=["FP32"]), "is unknown"),
        (body(parameters=None), r"inputs\[0\].parameters: must be an object"),
        (json.dumps(json.loads(body()) | {"outputs": None}).encode(), "outputs: must be a list"),
    ],
)
def test_bad_bodies_are_refused_before_they_break_anything(text, problem):
    with pytest.raises(BadBodyError, match=problem):
        to_protobuf(text, None, "m")


@pytest.mark.parametrize(
    ("raw", "problem"), [(b"\5\0\0\0ab", "cut short"), (b"\1\0\0\0a", "1 elements, the shape needs 2")]
)
def test_binary_text_must_fit_its_shape(raw, problem):
    parameters = {"binary_data_size": len(raw)}
    tensor = {"name": "x", "datatype": "BYTES", "shape": [2], "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(BadBodyError, match=rf"inputs\[0\]: .*{problem}"):
        to_protobuf(head + raw, len(head), "m")


@pytest.mark.parametrize(
    ("everything", "outputs", "binary"),
    [
        (None, [("y", None)], frozenset()),
        (None, [("y", True), ("z", False)], {"y"}),
        (True, [], None),
        (True, [("y", None), ("z", False)], {"y"}),
        (False, [("y", True)], {"y"}),
    ],
)
def test_what_an_output_asks_for_has_precedence(everything, outputs, binary):
    document = json.loads(body()) | {"parameters": {} if everything is None else {"binary_data_output": everything}}
    document["outputs"] = [
        {"name": name, "parameters": {} if flag is None else {"binary_data": flag}} for name, flag in outputs
    ]
    message = to_protobuf(json.dumps(document).encode(), None, "m")
    before = message.SerializeToString(deterministic=True)
    assert binary_outputs(message) == binary
    assert message.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("datatype", "raw", "problem"),
    [
        ("FP32", [b"abc"], "output y: 3 bytes are no FP32"),
        ("BYTES", [b"\5\0\0\0ab"], "output y: its BYTES are cut short"),
        ("FP7", [b"abcd"], "output y: datatype 'FP7' is unknown"),
        ("FP16", [], "output y: datatype 'FP16' has no contents field"),
        ("FP32", [b"", b""], "1 outputs, but 2 raw_output_contents"),
    ],
)
def test_broken_answers_are_told_and_not_mended(datatype, raw, problem):
    response = oip.ModelInferResponse(raw_output_contents=raw)
    response.outputs.add(name="y", datatype=datatype, shape=[1])
    with pytest.raises(UnreadableAnswerError, match=problem):
        from_protobuf(response, frozenset())


@pytest.mark.parametrize("binary", [None, frozenset()])
def test_typed_numbers_beyond_their_datatype_are_no_answer(binary):
    response = oip.ModelInferResponse()
    response.outputs.add(name="y", datatype="INT8", shape=[1]).contents.int_contents.append(128)
    with pytest.raises(UnreadableAnswerError, match="output y: 128 is no INT8"):
        from_protobuf(response, binary)


def test_what_is_no_text_must_be_asked_for_as_binary():
    response = oip.ModelInferResponse()
    response.outputs.add(name="y", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"\xff")
    with pytest.raises(NotTextError, match="output y is not text; ask for it with the parameter binary_data"):
        from_protobuf(response, frozenset())
    binary, length = from_protobuf(response, frozenset({"y"}))
    assert binary[length:] == b"\1\0\0\0\xff"
