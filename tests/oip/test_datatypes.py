"""The table of datatypes against the protocol's messages and the libraries it names."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import numpy as np
import onnx
import pytest

from shoal.oip.datatypes import DATATYPES, OF_NUMPY, OF_ONNX, DatatypeName, of_array
from shoal_protos import inference

NUMBERS = {name: datatype for name, datatype in DATATYPES.items() if datatype.numpy}


def test_every_name_of_the_protocol_is_in_the_table():
    assert DATATYPES.keys() == {*get_args(DatatypeName), "BF16"}


@pytest.mark.parametrize("name", NUMBERS)
def test_sizes_and_ranges_are_those_of_numpy(name):
    datatype, array = NUMBERS[name], np.zeros(1, NUMBERS[name].numpy)
    assert (datatype.size, of_array(array), OF_NUMPY[array.dtype.name]) == (array.itemsize, name, name)
    assert of_array(array.astype(array.dtype.newbyteorder(">"))) == name
    if array.dtype.kind != "b":
        limits = np.finfo(array.dtype) if datatype.floating else np.iinfo(array.dtype)
        assert (datatype.low, datatype.high) == (limits.min, limits.max)


def test_only_text_of_numpy_is_bytes():
    assert of_array(np.array(["a"])) == "BYTES"
    assert of_array(np.array([{}], object)) is of_array(np.zeros(1, complex)) is None


@pytest.mark.parametrize("name", OF_ONNX)
def test_names_are_those_of_onnx(name):
    kind = onnx.helper.tensor_dtype_to_np_dtype(getattr(onnx.TensorProto, name))
    assert DATATYPES[OF_ONNX[name]].numpy == ("" if kind.hasobject else kind.name)


@pytest.mark.parametrize("name", DATATYPES)
def test_typed_contents_hold_the_whole_range(name):
    datatype, contents = DATATYPES[name], inference.InferTensorContents()
    if not datatype.contents:
        assert (datatype.floating, datatype.size) == (True, 2)
        return
    values = {"BOOL": [False, True], "BYTES": [b"", b"\xff"]}.get(name, [datatype.low, datatype.high])
    getattr(contents, datatype.contents).extend(values)
    assert list(getattr(contents, datatype.contents)) == values


@pytest.mark.parametrize(
    ("name", "element", "taken"),
    [
        ("BOOL", True, True),
        ("BOOL", 1, False),
        ("INT8", 127, True),
        ("INT8", 128, False),
        ("INT8", True, False),
        ("INT8", 1.0, False),
        ("UINT64", 2**64 - 1, True),
        ("UINT64", -1, False),
        ("FP16", 65504, True),
        ("FP16", 65505, False),
        ("FP32", 1, True),
        ("FP32", np.float64(0.5), True),
        ("FP32", -1e39, False),
        ("FP64", 10**400, False),
        ("FP64", float("inf"), False),
        ("FP64", float("nan"), False),
        ("FP64", None, False),
        ("BYTES", "", True),
        ("BYTES", 1, False),
    ],
)
def test_what_json_may_have(name, element, taken):
    assert DATATYPES[name].takes(element) is taken


def test_a_model_servers_process_loads_nothing_else_for_it():
    ask = "import sys, shoal.oip.answers, shoal.oip.compare, shoal.oip.rest; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.split(".")[0] in ("shoal", "shoal_runtime")}
    assert ours == {"shoal", "shoal.oip"} | {
        f"shoal.oip.{room}" for room in ("answers", "compare", "datatypes", "rest", "tensors")
    }
    assert not {"grpc", "httpx", "kubernetes", "numpy", "pydantic"} & set(loaded)
