"""Names in queries, and numbers out of answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.mesh.checks.promql import fill_in, sample_of

NAMES = {"endpoint": "digits", "active": "digits__isvc-0123456789", "target": "digits__isvc-abcdef0123"}


def test_names_are_filled_in():
    query = 'rate(x{model="{{target}}",isvc="{{ endpoint }}"}[1m]) / y{model!="{{active}}", z="{{other}}"}'
    assert fill_in(query, NAMES) == (
        'rate(x{model="digits__isvc-abcdef0123",isvc="digits"}[1m])'
        ' / y{model!="digits__isvc-0123456789", z="{{other}}"}'
    )


def test_names_are_not_filled_in_twice():
    assert (
        fill_in("'{{endpoint}}'", NAMES | {"endpoint": "{{target}}"})
        == r"'\U0000007b\U0000007btarget\U0000007d\U0000007d'"
    )


@given(st.text())
def test_no_name_can_leave_its_string(name):
    filled = fill_in("{{target}}", NAMES | {"target": name})
    assert not set(filled) & set("\"'`\n{}")
    assert filled.encode("ascii").decode("unicode_escape") == name  # \\U is the same in Go


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"resultType": "vector", "result": [{"metric": {}, "value": [1.5, "0.25"]}]}, 0.25),
        ({"resultType": "vector", "result": [{"value": [1, "1"]}, {"value": [1, "2"]}]}, 1.0),
        ({"resultType": "scalar", "result": [1.5, "+Inf"]}, math.inf),
    ],
)
def test_the_first_sample_counts(data, value):
    assert sample_of(data) == value


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"resultType": "vector", "result": []}, "found nothing"),
        ({"resultType": "matrix", "result": []}, "yields matrix"),
        ({"resultType": "scalar", "result": [1, "NaN"]}, "NaN"),
        ({"resultType": "scalar", "result": [1, "many"]}, "no number"),
        ({"resultType": "vector", "result": [{"value": [1, 2]}]}, "yields vector"),
        (None, "yields nothing"),
    ],
)
def test_answers_without_a_number_say_so(data, problem):
    with pytest.raises(ValueError, match=problem):
        sample_of(data)
