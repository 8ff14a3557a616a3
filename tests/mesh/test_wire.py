"""Names inside protobuf messages, against the real protobuf library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.mesh.wire import MalformedMessageError, read_string, write_string
from shoal_protos import inference as oip

names = st.text(min_size=1, max_size=300)


def request(name: str, rows: int) -> bytes:
    message = oip.ModelInferRequest(model_name=name, id="7")
    message.parameters["p"].int64_param = -5
    tensor = message.inputs.add(name="predict", datatype="FP64", shape=[rows, 3])
    tensor.contents.fp64_contents.extend([0.5] * rows * 3)
    message.raw_input_contents.append(b"\x08\x96\x01" * rows)
    return message.SerializeToString()


@given(name=names, other=names, rows=st.integers(0, 50))
def test_written_name_is_what_protobuf_reads_and_nothing_else_changes(name, other, rows):
    before = oip.ModelInferRequest.FromString(request(name, rows))
    after = oip.ModelInferRequest.FromString(write_string(request(name, rows), (1,), other))
    assert after.model_name == other
    after.model_name = before.model_name
    assert after == before


@given(name=names, rows=st.integers(0, 50))
def test_name_is_read_wherever_it_stands(name, rows):
    last = write_string(request("", rows), (1,), name)
    assert read_string(request(name, rows), (1,)) == name
    assert read_string(last, (1,)) == name


def test_absent_name_is_none():
    assert read_string(request("", 2), (1,)) is None
    assert read_string(b"", (1,)) is None


@given(name=names, inner=names)
def test_nested_paths(name, inner):
    nested = write_string(write_string(b"", (1, 1), inner), (1, 2), "signature")
    assert read_string(nested, (1, 1)) == inner
    outer = oip.ModelInferResponse.FromString(write_string(b"", (5, 1), name))
    assert outer.outputs[0].name == name


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"\x0a", "cut short"),
        (b"\x0a\x05abc", "cut short"),
        (b"\xff" * 11, "longer than ten bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\x01\xff", "not UTF-8"),
        (b"\x80", "cut short"),
    ],
)
def test_malformed_messages_say_what_is_wrong(message, problem):
    with pytest.raises(MalformedMessageError, match=problem):
        read_string(message, (1,))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(message):
    try:
        name = read_string(message, (1,))
    except MalformedMessageError:
        return
    assert name is None or isinstance(name, str)
