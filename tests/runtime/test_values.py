"""Values of JSON against datatype and shape: what does not fit is refused by field, with what to write instead."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from mlserver.types import Datatype

from shoal_runtime.mlserver.binary import read_request
from shoal_runtime.mlserver.faults import RequestFaultError
from shoal_runtime.mlserver.values import TEXT, TYPES


def read(datatype: str, shape: Any, data: Any) -> Any:
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    request, _ = read_request(json.dumps({"inputs": [tensor]}).encode(), None)
    return request.inputs[0].data.root


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("INT64", [2, 2], [[1, -(2**63)], [3, 2**63 - 1]]),
        ("UINT64", [1], [2**64 - 1]),
        ("INT8", [2], [-128, 127]),
        ("FP32", [3], [1, 2.5, -3e38]),
        ("FP64", [2], [1e300, 0]),
        ("FP16", [1], [65504]),
        ("BOOL", [2], [True, False]),
        ("BYTES", [2], ["a", None]),
        ("FP32", [0], []),
        ("FP32", [1], 7.5),
    ],
)
def test_values_that_fit_come_through_unchanged(datatype: str, shape: Any, data: Any) -> None:
    assert read(datatype, shape, data) == data


def test_datatypes_are_those_of_mlserver() -> None:
    assert [*TYPES, TEXT] == [datatype.value for datatype in Datatype]


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_is_nan_where_the_datatype_has_it(datatype: str) -> None:
    read_back = read(datatype, [2, 1], [[None], [1.5]])
    assert math.isnan(read_back[0])
    assert read_back[1] == 1.5


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "words"),
    [
        ("INT64", [2], [1, 1.5], "inputs[0].data: value 1 is 1.5, but INT64 takes whole numbers"),
        ("INT64", [1], [1.0], "value 0 is 1.0, but INT64 takes whole numbers, written without a point"),
        ("INT32", [1], [True], "value 0 is true, but INT32 takes whole numbers"),
        ("INT32", [1], ["1"], "value 0 is '1', but INT32"),
        ("INT32", [1], [None], "value 0 is null, but INT32"),
        ("INT64", [1], [2**70], "but INT64 takes whole numbers"),
        ("INT8", [2], [1, 128], "inputs[0].data: 128 is out of range, INT8 takes -128 to 127; use a wider datatype"),
        ("UINT8", [1], [-1], "-1 is out of range, UINT8 takes 0 to 255"),
        ("UINT64", [1], [-1], "-1 is out of range"),
        ("BOOL", [2], [1, 0], "value 0 is 1, but BOOL takes true and false"),
        ("BOOL", [1], ["true"], "value 0 is 'true', but BOOL"),
        ("FP32", [1], [True], "value 0 is true, but FP32 takes numbers"),
        ("FP32", [1], ["NaN"], "value 0 is 'NaN', but FP32 takes numbers, and null for NaN"),
        ("FP32", [2], [1, -1e39], "-1e+39 is out of range, FP32 takes up to 3.40282e+38"),
        ("FP32", [3], [None, 1e39, 1], "1e+39 is out of range"),
        ("FP16", [1], [65536], "65536 is out of range, FP16"),
        ("BYTES", [1], [5], "value 0 is 5, but BYTES takes text"),
        ("BYTES", [1], [{"a": 1}], "but BYTES takes text"),
        ("FP32", [2], [1], "inputs[0]: its shape [2] needs 2 values, its data has 1"),
        ("FP32", [1], [[1], 2], "inputs[0].data: lists and values stand side by side"),
        ("FP32", [True], [1], "inputs[0].shape: true is no size; each is a whole number, 0 or more"),
        ("FP32", [-1], [1], "inputs[0].shape: -1 is no size"),
        ("FP32", [1.0], [1], "inputs[0].shape: 1.0 is no size"),
        ("FP32", ["1"], [1], "inputs[0].shape: '1' is no size"),
    ],
)
def test_values_that_do_not_are_refused_by_field(datatype: str, shape: Any, data: Any, words: str) -> None:
    with pytest.raises(RequestFaultError) as refused:
        read(datatype, shape, data)
    assert words in str(refused.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_json_lacks_is_told_with_what_to_write_instead(value: str) -> None:
    with pytest.raises(RequestFaultError) as refused:
        read("FP32", [1], [float(value)])
    assert "NaN and infinities are no JSON: write null for NaN, and send infinities as binary tensors" in str(
        refused.value
    )


def test_other_bytes_than_0_and_1_are_no_boolean() -> None:
    tensor = {"name": "x", "shape": [3], "datatype": "BOOL", "parameters": {"binary_data_size": 3}}
    head = json.dumps({"inputs": [tensor]}).encode()
    read_request(head + b"\x00\x01\x00", str(len(head)))
    with pytest.raises(RequestFaultError) as refused:
        read_request(head + b"\x00\x01\x02", str(len(head)))
    assert "inputs[0].binary_data: a byte is 2, but BOOL takes 0 and 1" in str(refused.value)
