from __future__ import annotations

import math

import pytest

from shoal.oip.compare import EXACT, Tolerance
from shoal.package.compare import MAX_DIFFERENCES, compare


def body(data, datatype="FP32", shape=None, name="y"):
    return {"outputs": [{"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}]}


@pytest.mark.parametrize(
    ("datatype", "expected", "actual", "agrees"),
    [
        ("INT64", [1, 2], [1, 2], True),
        ("INT64", [1, 2], [1, 3], False),
        ("INT64", [2**63 - 1], [2**63 - 2], False),
        ("BOOL", [True], [True], True),
        ("BOOL", [True], [1], False),
        ("BYTES", ["a"], ["a"], True),
        ("BYTES", ["a"], ["A"], False),
        ("BYTES", ["1"], [1], False),
        ("FP32", [1.0], [1.00005], True),
        ("FP32", [1.0], [1.001], False),
        ("FP32", [0.0], [5e-6], True),
        ("FP64", [1.0], [1.00005], False),
        ("FP64", [1.0], [1.0 + 1e-7], True),
        ("FP16", [1.0], [1.005], True),
        ("FP32", [1], [1.0], True),
        ("FP64", [math.nan], [math.nan], True),
        ("FP64", [math.nan], [0.0], False),
        ("FP64", [math.inf], [math.inf], True),
        ("FP64", [math.inf], [-math.inf], False),
        ("FP64", [1e308], [math.inf], False),
        ("FP32", [1.0], [None], False),
        ("FP64", [1.0], [10**400], False),
        ("FP64", [10**400], [10**400 + 1], False),
    ],
)
def test_how_close_is_close_enough_depends_on_the_datatype(datatype, expected, actual, agrees):
    assert compare(body(expected, datatype), body(actual, datatype)).agrees is agrees


def test_nested_and_flat_data_are_the_same():
    found = compare(body([[1, 2], [3, 4]], "INT32", [2, 2]), body([1, 2, 3, 4], "INT32", [2, 2]))
    assert (found.agrees, found.compared) == (True, 4)


def test_another_precision_is_fine_another_kind_is_not():
    assert compare(body([0.5], "FP64"), body([0.5], "FP32")).agrees
    found = compare(body([1], "INT64"), body([1], "INT32"))
    assert str(found.differences[0]) == "y: is INT32, expected INT64"


def test_what_differs_is_said():
    found = compare(body([1, 2, 3], "INT64"), body([1, 5, 3], "INT64"))
    assert str(found) == "1 of 3 values differ: y[1]: 5, expected 2"
    assert found.greatest == 3
    assert str(compare(body([1.0]), body([1.0]))) == "1 values agree (greatest difference 0)"


@pytest.mark.parametrize(
    ("actual", "what"),
    [
        ({}, "is missing in the answer"),
        ({"outputs": None}, "is missing in the answer"),
        ({"outputs": ["y"]}, "is missing in the answer"),
        (body([1.0], name="z"), "is missing in the answer"),
        (body([1.0], shape=[1, 1]), "has shape [1, 1], expected [1]"),
        (body([1.0, 2.0], shape=[1]), "has 2 elements, expected 1"),
        ({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]}, "has 0 elements, expected 1"),
    ],
)
def test_answers_that_cannot_be_compared_differ(actual, what):
    found = compare(body([1.0]), actual)
    assert not found.agrees
    assert found.differences[0].what == what


def test_more_outputs_than_expected_are_no_difference():
    more = body([1.0])
    more["outputs"].append({"name": "extra", "datatype": "FP32", "shape": [1], "data": [2.0]})
    assert compare(body([1.0]), more).agrees


def test_tolerances_can_be_given_and_few_differences_are_described():
    expected, actual = body([0.0] * 100), body([0.1] * 100)
    assert compare(expected, actual, {"FP32": Tolerance(absolute=0.2)}).agrees
    found = compare(expected, actual, {"FP32": EXACT})
    assert (found.differing, len(found.differences)) == (100, MAX_DIFFERENCES)
