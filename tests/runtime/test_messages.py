"""gRPC requests that are broken or whose raw bytes do not fit: refused by name."""

import struct

import grpc
import pytest
from mlserver.errors import InferenceError

from runtime_support import Pod, refused
from shoal_protos import inference
from shoal_runtime.mlserver.messages import check_raw, parse


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


def sound(model: str = "m") -> bytes:
    message = inference.ModelInferRequest(model_name=model, id="one")
    for name in ("x", "y"):
        message.inputs.add(name=name, datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    return message.SerializeToString()


def broken(model: str = "m") -> bytes:
    """Sound but for the length of the second tensor's name, which reaches beyond the tensor."""
    return sound(model).replace(b"\x0a\x01y", b"\x0a\x7fy")


def test_a_sound_message_is_parsed():
    assert [tensor.name for tensor in parse(sound()).inputs] == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (broken(), "inputs[1] is broken"),
        (sound()[:-3], "the message is broken:"),
        (sound().replace(b"one", b"\xff\xfe\xfd"), "broken outside of its inputs"),
        (sound().replace(b"\x0a\x01x", b"\x0a\x01\xff"), "inputs[0] is broken"),
    ],
)
def test_a_broken_message_is_refused_with_the_place(content, words):
    with pytest.raises(InferenceError) as told:
        parse(content)
    assert words in str(told.value)


@pytest.mark.server
async def test_a_broken_tensor_is_the_clients_fault(pod: Pod):
    await pod.load("m", "mnist-svm.joblib")
    unary = pod.raw("ModelInfer")
    code, message = await refused(unary(broken()))
    assert (code, "inputs[1] is broken" in message) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    stream = pod.raw("ModelStreamInfer", streaming=True)
    code, message = await refused(stream(iter([broken()])).read())
    assert (code, "inputs[1] is broken" in message) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert len(await pod.infer("m", [[0.0] * 64])) == 1


@pytest.mark.server
async def test_a_stream_is_parsed_message_by_message(pod: Pod):
    await pod.load("m", "mnist-svm.joblib")
    message = inference.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend([0.0] * 64)
    stream = pod.raw("ModelStreamInfer", streaming=True)
    answers = [
        inference.ModelInferResponse.FromString(content)
        async for content in stream(iter([message.SerializeToString()]))
    ]
    assert [answer.model_name for answer in answers] == ["m"]
