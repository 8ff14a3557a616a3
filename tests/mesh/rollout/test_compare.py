"""What counts as the same answer."""

import math
import struct

import pytest

from shoal.mesh.checks.compare import MAX_SCORES, compare
from shoal.oip.answers import Output, UnreadableAnswerError, outputs_of_json, outputs_of_message
from shoal_protos import inference as oip


def message(*outputs, raw=()):
    response = oip.ModelInferResponse(model_name="m", raw_output_contents=raw)
    for name, datatype, shape, field, values in outputs:
        output = response.outputs.add(name=name, datatype=datatype, shape=shape)
        if field:
            getattr(output.contents, field).extend(values)
    return outputs_of_message(response.SerializeToString())


def floats(*values, name="y", datatype="FP64"):
    return {name: Output(datatype, (len(values),), values)}


@pytest.mark.parametrize(
    ("was", "now", "agree"),
    [
        (1.0, 1.0009, True),
        (1.0, 1.002, False),
        (-1000.0, -1000.9, True),
        (0.0, 9e-6, True),
        (0.0, 2e-5, False),
        (math.nan, math.nan, True),
        (math.nan, 0.0, False),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (1e300, math.inf, False),
        (1, 1.0005, True),
        (None, None, True),
        (1.0, None, False),
    ],
)
def test_floats_agree_within_a_tolerance(was, now, agree):
    assert compare(floats(was), floats(now)).agree is agree
    assert compare(floats(5.0, was), floats(5.0, now)).agree is agree


@pytest.mark.parametrize(
    ("datatype", "was", "now"),
    [
        ("INT64", 1_000_000, 1_000_001),
        ("BYTES", b"cat", b"cats"),
        ("BOOL", True, False),
        ("BOOL", True, 1),
    ],
)
def test_whole_numbers_and_strings_agree_only_when_equal(datatype, was, now):
    same = compare({"y": Output(datatype, (1,), (was,))}, {"y": Output(datatype, (1,), (was,))})
    other = compare({"y": Output(datatype, (1,), (was,))}, {"y": Output(datatype, (1,), (now,))})
    assert (same.agree, other.agree, other.difference) == (True, False, "output y: other values")


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (floats(1.0, datatype="FP32"), "output y: datatype FP64 became FP32"),
        ({"y": Output("FP64", (1, 1), (1.0,))}, "output y: shape [1] became [1, 1]"),
        (floats(1.0, name="z"), "outputs y became z"),
        ({}, "outputs y became none"),
        (floats(1.0) | floats(1.0, name="z"), "outputs y became y, z"),
        ({"y": Output("FP64", (1,), ())}, "output y: other values"),
    ],
)
def test_another_form_of_answer_disagrees_and_says_where(now, difference):
    assert compare(floats(1.0), now).difference == difference


def test_the_same_numbers_agree_however_they_are_carried():
    contents = message(("y", "FP32", [2], "fp32_contents", [0.5, -3.0]))
    raw = message(("y", "FP32", [2], None, ()), raw=[struct.pack("<2f", 0.5, -3.0)])
    text = outputs_of_json(b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [[0.5], [-3]]}]}')
    assert compare(contents, raw).agree
    assert compare(raw, text).agree
    strings = message(("y", "BYTES", [2], "bytes_contents", [b"", b"ab"]))
    assert compare(strings, message(("y", "BYTES", [2], None, ()), raw=[b"\0\0\0\0\2\0\0\0ab"])).agree


def test_outputs_are_matched_by_name_not_by_place():
    one = message(("a", "INT32", [1], "int_contents", [1]), ("b", "BOOL", [1], "bool_contents", [True]))
    two = message(("b", "BOOL", [1], "bool_contents", [True]), ("a", "INT32", [1], "int_contents", [1]))
    assert compare(one, two).agree


def test_half_precision_is_read():
    half = message(("y", "FP16", [1], None, ()), raw=[struct.pack("<e", 1.5)])
    brain = message(("y", "BF16", [1], None, ()), raw=[struct.pack("<f", 1.5)[2:]])
    assert half["y"].values == brain["y"].values == (1.5,)


def test_numbers_of_answers_are_scores():
    outputs = {
        "b": Output("FP32", (3,), (1.5, math.nan, math.inf)),
        "a": Output("INT8", (1,), (-2,)),
        "c": Output("BYTES", (1,), (b"7",)),
        "d": Output("BOOL", (1,), (True,)),
    }
    comparison = compare(outputs, floats(*range(1000)))
    assert comparison.active_scores == (-2.0, 1.5, 1.0)
    assert len(comparison.target_scores) == MAX_SCORES
    assert compare(floats(10**400), floats(10**400)).active_scores == ()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"[", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no list of outputs"),
        (b'{"outputs": [1]}', "an output has no name"),
        (b'{"outputs": [{"name": "y", "shape": [1]}]}', "output y: has no data"),
        (b'{"outputs": [{"name": "y", "data": [1], "shape": ["1"]}]}', "output y: has no shape"),
        (b'{"outputs": [{"name": "y", "shape": [], "data": ' + b"[" * 40 + b"]" * 40 + b"}]}", "deeper"),
    ],
)
def test_json_that_cannot_be_compared_says_why(answer, problem):
    with pytest.raises(UnreadableAnswerError, match=problem):
        outputs_of_json(answer)


@pytest.mark.parametrize(
    ("datatype", "raw", "problem"),
    [
        ("FP32", b"abc", "3 bytes are no FP32"),
        ("BF16", b"abc", "3 bytes are no BF16"),
        ("FP7", b"abcd", "'FP7' is unknown"),
        ("BYTES", b"\5\0\0\0ab", "cut short"),
        ("BYTES", b"\5\0", "cut short"),
    ],
)
def test_tensors_that_cannot_be_compared_say_why(datatype, raw, problem):
    with pytest.raises(UnreadableAnswerError, match=problem):
        message(("y", datatype, [1], None, ()), raw=[raw])


def test_messages_that_are_none_are_refused():
    with pytest.raises(UnreadableAnswerError, match="no ModelInferResponse"):
        outputs_of_message(b"\xff\xff\xff")
    with pytest.raises(UnreadableAnswerError, match="1 outputs, but 2"):
        message(("y", "FP32", [0], None, ()), raw=[b"", b""])
    with pytest.raises(UnreadableAnswerError, match="'FP16' has no contents"):
        message(("y", "FP16", [1], None, ()))
