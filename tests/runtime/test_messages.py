"""gRPC requests that are broken or whose raw bytes do not fit: refused by name."""

import struct

import grpc
import pytest

from shoal_protos import inference
from shoal_runtime.mlserver.faults import RequestFaultError
from shoal_runtime.mlserver.messages import check, parse
from support.runtime import Pod, refused


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
        ((("e", "FP32", [0]),), ()),
        ((X,), (bytes(16),)),
        ((("b", "BOOL", [2]),), (b"\x00\x01",)),
        ((X, ("e", "INT64", [0])), (bytes(16), b"")),
        ((TEXT,), (struct.pack("<I", 3) + b"abc" + struct.pack("<I", 0),)),
    ],
)
def test_what_fits(tensors, raw):
    check(request(*tensors, raw=raw))


def test_inputs_with_contents_take_no_entry():
    message = request(X, raw=[bytes(16)])
    message.inputs.add(name="y", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    check(message)


@pytest.mark.parametrize(
    ("tensors", "raw", "words"),
    [
        ((X,), (bytes(15),), "input 'x': raw_input_contents: 15 bytes, but FP32 of shape [2, 2] takes 16"),
        ((X,), (bytes(16), b""), "2 entries for 1 inputs"),
        ((X, TEXT), (bytes(16),), "1 entries for 2 inputs"),
        ((("x", "FP32", [-1]),), (bytes(4),), "shape: -1 is no size"),
        ((("x", "FP32", [2**40, 2**40]),), (bytes(4),), "takes"),
        ((("x", "FP99", [1]),), (bytes(4),), "'FP99' is none of BOOL"),
        ((("x", "BF16", [1]),), (bytes(2),), "'BF16' is none of BOOL"),
        ((TEXT,), (struct.pack("<I", 9) + b"abc",), "end within an element"),
        ((TEXT,), (b"\x00\x00",), "end within an element"),
        ((X,), (), "its shape [2, 2] needs 4 values, its contents has 0"),
        ((("b", "BOOL", [2]),), (b"\x00\x05",), "a byte is 5, but BOOL takes 0 and 1"),
    ],
)
def test_what_does_not(tensors, raw, words):
    with pytest.raises(RequestFaultError) as refused:
        check(request(*tensors, raw=raw))
    assert words in str(refused.value)


def typed(datatype, shape, **contents):
    message = inference.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return message


@pytest.mark.parametrize(
    ("datatype", "contents"),
    [
        ("INT8", {"int_contents": [-128, 127]}),
        ("UINT16", {"uint_contents": [0, 65535]}),
        ("INT64", {"int64_contents": [-(2**63), 2**63 - 1]}),
        ("FP32", {"fp32_contents": [float("nan"), float("-inf")]}),
        ("BOOL", {"bool_contents": [True, False]}),
    ],
)
def test_typed_contents_that_fit(datatype, contents):
    check(typed(datatype, [2], **contents))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            typed("INT64", [1], fp32_contents=[1.0]),
            "contents.fp32_contents: values of INT64 belong in int64_c",
        ),
        (typed("BOOL", [1], int_contents=[1]), "values of BOOL belong in bool_contents"),
        (
            typed("FP32", [1], fp32_contents=[1.0], int_contents=[1]),
            "int_contents: values of FP32 belong in fp32",
        ),
        (typed("FP16", [1], fp32_contents=[1.0]), "no field for FP16; send it in raw_input_contents"),
        (typed("INT8", [1], int_contents=[128]), "int_contents: 128 is out of range, INT8 takes -128 to 127"),
        (typed("UINT64", [1], uint64_contents=[2**64 - 1], int64_contents=[1]), "belong in uint64_contents"),
        (typed("UINT8", [2], uint_contents=[1, 256]), "256 is out of range, UINT8 takes 0 to 255"),
        (typed("FP32", [2], fp32_contents=[1.0]), "its shape [2] needs 2 values, its fp32_contents has 1"),
        (typed("FP32", [-1], fp32_contents=[1.0]), "shape: -1 is no size"),
        (typed("FP99", [1], fp32_contents=[1.0]), "'FP99' is none of BOOL"),
    ],
)
def test_typed_contents_that_do_not(message, words):
    with pytest.raises(RequestFaultError) as told:
        check(message)
    assert words in str(told.value)


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
    with pytest.raises(RequestFaultError) as told:
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
