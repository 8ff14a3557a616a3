"""The classifier of JSON bodies against Python's own parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.oip.datatypes import DATATYPES
from shoal_protos import inference
from speed import times
from support.lua import require

lua = require("json")


def form(body: str | bytes, model: str = "m", version: str = "", binary: bool = False) -> tuple[str | None, str | None]:
    given = body.encode() if isinstance(body, str) else body
    result = lua.form(given, model.encode() or False, version.encode(), binary)
    if isinstance(result, tuple):
        return result[0], result[1].decode(errors="replace")
    return result.decode(), None


names = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(names, v, max_size=4), max_leaves=12)
numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8)
parameters = st.dictionaries(names, st.fixed_dictionaries({"string_param": names}), max_size=3)


def tensors(extra: dict[str, Any]):
    return st.lists(
        st.fixed_dictionaries(
            {"name": names, "shape": st.lists(st.integers(0, 9), max_size=3)} | extra,
            optional={"parameters": parameters},
        ),
        min_size=1,
        max_size=3,
    )


standard = tensors({"datatype": names, "data": st.lists(values, max_size=5) | numbers})
protobuf = tensors({"datatype": st.just("FP32"), "contents": st.fixed_dictionaries({"fp32_contents": numbers})})
bodies = st.fixed_dictionaries(
    {"inputs": standard | protobuf},
    optional={
        "id": names,
        "parameters": parameters,
        "outputs": st.lists(st.fixed_dictionaries({"name": names}, optional={"parameters": parameters}), max_size=2),
    },
)


def dumped(draw: Any, body: Any) -> str:
    indent = draw(st.sampled_from([None, 0, 2]))
    return json.dumps(body, indent=indent, ensure_ascii=draw(st.booleans()))


@settings(max_examples=times(300), deadline=None)
@given(bodies, st.data())
def test_every_proper_body_is_told_apart(body, data):
    expected = "standard" if "data" in body["inputs"][0] else "protobuf"
    assert form(dumped(data.draw, body)) == (expected, None)


@settings(max_examples=times(300), deadline=None)
@given(bodies, st.data())
def test_a_cut_body_is_refused(body, data):
    text = json.dumps(body)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    decided, error = form(cut)
    assert decided is None
    assert error


@settings(max_examples=times(300), deadline=None)
@given(values, st.data())
def test_any_json_is_decided_or_refused(value, data):
    decided, error = form(dumped(data.draw, value))
    assert (decided is None) != (error is None)


@settings(max_examples=times(300), deadline=None)
@given(st.text(alphabet='{}[]":,\\ 01ae-nul\n', max_size=60))
def test_what_is_accepted_has_inputs(text):
    decided, _ = form(text)
    if decided is not None:
        assert '"inputs"' in text


@settings(max_examples=times(200), deadline=None)
@given(bodies, st.sampled_from(["", "input", "outputs "]), st.data())
def test_an_unknown_field_anywhere_is_named(body, key, data):
    where = data.draw(st.sampled_from(["body", "input", "contents"]))
    target = body if where == "body" else body["inputs"][-1]
    if where == "contents" and "contents" in target:
        target = target["contents"]
    target[key] = 1
    decided, error = form(json.dumps(body))
    assert decided is None
    assert "unknown field" in error


INPUT = {"name": "a", "shape": [1], "datatype": "FP32"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": [INPUT]}, "inputs[0] has neither data"),
        ({"inputs": [INPUT | {"data": [1], "contents": {"fp32_contents": [1]}}]}, "inputs[0] has both"),
        ({"inputs": [INPUT | {"contents": {}}]}, "contents has no values"),
        ({"inputs": [INPUT | {"contents": {"fp32_contents": [1], "int64_contents": [1]}}]}, "two types"),
        ({"inputs": [INPUT | {"contents": {"fp64_contents": [1]}}]}, "use fp32_contents"),
        ({"inputs": [INPUT | {"contents": 1}]}, "inputs[0].contents must be an object"),
        ({"inputs": {}}, "inputs must be a list"),
        ({"inputs": [1]}, "inputs[0] must be an object"),
        ({"inputs": [INPUT], "raw_input_contents": [""], "outputs": [{"data": 1}]}, "outputs[0] has the unknown"),
        ({"inputs": [INPUT | {"data": [1]}], "raw_input_contents": []}, "use one form"),
        ({"inputs": [INPUT], "raw_input_contents": ["AA=="], "parameters": {"a": {"b": 1}}}, "unknown field b"),
        ({"inputs": [INPUT], "raw_input_contents": ["AA=="], "parameters": {"a": 1}}, "must be an object"),
    ],
)
def test_what_would_be_ignored_is_refused(body, says):
    decided, error = form(json.dumps(body))
    assert decided is None
    assert says in error


@pytest.mark.parametrize("datatype", DATATYPES)
def test_typed_values_belong_in_the_field_of_their_datatype(datatype):
    needed = DATATYPES[datatype].contents
    for field in inference.InferTensorContents.DESCRIPTOR.fields_by_name:
        decided, error = form(json.dumps({"inputs": [INPUT | {"datatype": datatype, "contents": {field: [1]}}]}))
        if field == needed:
            assert (decided, error) == ("protobuf", None)
        else:
            assert (f"use {needed}" if needed else "has no field for; send it in raw_input_contents") in error


@pytest.mark.parametrize("text", ['{"inputs":[],"inputs":[]}', '{"rawInputContents":[],"raw_input_contents":[]}'])
def test_twice_is_refused(text):
    assert "twice" in form(text)[1]


STANDARD, PROTOBUF = INPUT | {"data": [1]}, INPUT | {"contents": {"fp32_contents": [1]}}


@pytest.mark.parametrize("tensor", [STANDARD, PROTOBUF])
@pytest.mark.parametrize("escaped", [True, False])
@given(name=st.text(min_size=1), version=st.text(min_size=1))
def test_a_body_may_repeat_name_and_version_of_the_path(tensor, escaped, name, version):
    expected = "standard" if tensor is STANDARD else "protobuf"
    text = json.dumps({"model_name": name, "model_version": version, "inputs": [tensor]}, ensure_ascii=escaped)
    assert form(text, name, version) == (expected, None)
    decided, error = form(text, name + "x", version)
    assert decided is None
    assert error.startswith("model_name is ")
    decided, error = form(text, name, version + "x")
    assert decided is None
    assert error.startswith("model_version is ")


@pytest.mark.parametrize("tensor", [STANDARD, PROTOBUF])
@pytest.mark.parametrize("nothing", [None, ""])
def test_an_empty_name_or_version_says_nothing(tensor, nothing):
    text = json.dumps({"model_name": nothing, "model_version": nothing, "inputs": [tensor]})
    assert form(text)[1] is None
    assert form(text, version="3")[1] is None


def test_any_name_goes_where_a_header_names_the_revision():
    assert form(json.dumps({"model_name": "other", "inputs": [STANDARD]}), model="") == ("standard", None)


@pytest.mark.parametrize("field", ["model_name", "modelVersion"])
@pytest.mark.parametrize("value", [1, True, ["m"], {}])
def test_a_name_or_version_that_is_no_string_is_refused(field, value):
    error = form(json.dumps({field: value, "inputs": [STANDARD]}), version="1")[1]
    assert error in ("model_name must be a string", "model_version must be a string")


def test_a_version_that_nobody_would_read_is_refused():
    body = {"model_version": "3", "inputs": [STANDARD]}
    assert "/v2/models/NAME/versions/VERSION/infer" in form(json.dumps(body))[1]
    assert form(json.dumps(body | {"inputs": [PROTOBUF]})) == ("protobuf", None)  # the model server reads it there


def test_raw_contents_are_of_the_protobuf_form():
    assert form(json.dumps({"inputs": [INPUT], "rawInputContents": ["AA=="]})) == ("protobuf", None)


def test_tensors_may_follow_the_json():
    assert form(json.dumps({"inputs": [INPUT]}), binary=True) == ("standard", None)


def test_deep_nesting_is_no_trouble():
    deep = "[" * 100_000 + "]" * 100_000
    assert form('{"inputs":[{"data":' + deep + "}]}") == ("standard", None)
    assert form('{"inputs":[{"data":' + deep[:-1] + "}]}")[0] is None


def test_message_of_a_status():
    assert lua.status_message(b'{"code":3,"message":"a \\"b\\"","details":[]}') == b'a \\"b\\"'
    assert lua.status_message(b'{"code":3}') == b""
    assert lua.status_message(b'{"error":"x"}') is None
