"""Raw bytes in gRPC requests: what does not fit is refused by name."""

import struct

import pytest
from mlserver.errors import InferenceError

from shoal_protos import inference
from shoal_runtime.mlserver.messages import check_raw


def request(*tensors, raw=()):
    message = inference.ModelInferRequest(model_name="m", raw_input_contents=raw)
    for name, datatype, shape in tensors:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
    return message


X = ("x", "FP32", [2, 2])
TEXT = ("t", "BYTES", [2])


@pytest.mark.parametrize(
    ("tensors", "raw"),
    [
        ((X,), ()),
        ((X,), (bytes(16),)),
        ((X, ("e", "INT64", [0])), (bytes(16), b"")),
        ((TEXT,), (struct.pack("<I", 3) + b"abc" + struct.pack("<I", 0),)),
    ],
)
def test_what_fits(tensors, raw):
    check_raw(request(*tensors, raw=raw))


def test_inputs_with_contents_take_no_entry():
    message = request(X, raw=[bytes(16)])
    message.inputs.add(name="y", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    check_raw(message)


@pytest.mark.parametrize(
    ("tensors", "raw", "words"),
    [
        ((X,), (bytes(15),), "input 'x': raw_input_contents: 15 bytes, but FP32 of shape [2, 2] takes 16"),
        ((X,), (bytes(16), b""), "2 entries for 1 inputs"),
        ((X, TEXT), (bytes(16),), "1 entries for 2 inputs"),
        ((("x", "FP32", [-1]),), (bytes(4),), "negative size"),
        ((("x", "FP32", [2**40, 2**40]),), (bytes(4),), "takes"),
        ((("x", "FP99", [1]),), (bytes(4),), "'FP99' is none of BOOL"),
        ((TEXT,), (struct.pack("<I", 9) + b"abc",), "end within an element"),
        ((TEXT,), (b"\x00\x00",), "end within an element"),
    ],
)
def test_what_does_not(tensors, raw, words):
    with pytest.raises(InferenceError) as refused:
        check_raw(request(*tensors, raw=raw))
    assert words in str(refused.value)
