"""The scanner and renamer of gRPC messages, in the LuaJIT that Envoy has too."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_protos import inference as oip
from speed import times
from support.lua import require, runtime

lua = runtime()
frames = require("frames", lua)
BODY = lua.eval(b"function(bytes) return { getBytes = function(_, offset, count) return bytes(offset, count) end } end")


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def read_name(body: bytes):
    of_envoy = BODY(lambda offset, count: body[int(offset) : int(offset + count)])
    result = frames.read_name(of_envoy, len(body), body[: int(frames.WINDOW)])
    return result if isinstance(result, tuple) else (result, None)


texts = st.text(min_size=1, max_size=300)
requests = st.builds(
    lambda name, ident, raw, outputs: oip.ModelInferRequest(
        model_name=name, id=ident, raw_input_contents=raw, outputs=[{"name": o} for o in outputs]
    ),
    texts,
    st.text(max_size=40),
    st.lists(st.binary(max_size=9000), max_size=4),
    st.lists(st.text(max_size=200), max_size=40),
)


@settings(max_examples=times(150), deadline=None)
@given(requests, st.randoms())
def test_finds_the_name_wherever_it_stands(request_message, random):
    parts = []
    for field, value in request_message.ListFields():
        for item in value if field.is_repeated else [value]:
            part = oip.ModelInferRequest()
            getattr(part, field.name).append(item) if field.is_repeated else setattr(part, field.name, item)
            parts.append(part.SerializeToString())
    random.shuffle(parts)
    assert read_name(framed(b"".join(parts))) == (request_message.model_name.encode(), None)


@settings(max_examples=times(300), deadline=None)
@given(st.binary(max_size=60))
def test_agrees_with_protobuf_on_what_is_cut_off(message):
    name, error = read_name(framed(message))
    assert name is None or isinstance(name, bytes)
    assert name is None or error is None


@settings(max_examples=100, deadline=None)
@given(requests, st.data())
def test_what_is_cut_off_is_told(request_message, data):
    body = framed(request_message.SerializeToString())
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    name, error = read_name(cut)
    assert name is None
    assert "cut off" in error.decode() or "no message" in error.decode()


@settings(max_examples=100, deadline=None)
@given(requests, texts)
def test_renaming_leaves_everything_else(request_message, name):
    renamed = bytes(frames.rename(framed(request_message.SerializeToString()), name.encode()))
    assert int.from_bytes(renamed[1:5], "big") == len(renamed) - 5
    request_message.model_name = name
    assert oip.ModelInferRequest.FromString(renamed[5:]) == request_message


@settings(max_examples=100, deadline=None)
@given(st.lists(requests, max_size=4), texts, st.lists(st.integers(1, 3000), min_size=1, max_size=50))
def test_a_stream_is_renamed_however_it_is_cut(messages, name, cuts):
    body = b"".join(framed(m.SerializeToString()) for m in messages)
    rename = frames.renamer(name.encode())
    out, position, turn = b"", 0, 0
    while position < len(body):
        size = cuts[turn % len(cuts)]
        out += bytes(rename(body[position : position + size]))
        position, turn = position + size, turn + 1
    for message in messages:
        size = int.from_bytes(out[1:5], "big")
        message.model_name = name
        assert oip.ModelInferRequest.FromString(out[5 : 5 + size]) == message
        out = out[5 + size :]
    assert out == b""


def test_compressed_frames_of_a_stream_are_left_alone():
    frame = b"\1\0\0\0\3abc"
    assert bytes(frames.renamer(b"x")(frame + frame)) == frame + frame


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no message"),
        (b"\1\0\0\0\0", "compressed"),
        (b"\0\0\0\0\1", "cut off"),
        (framed(b"\x0a\1a") + b"\0", "more than one"),
        (framed(b"\x02\1a"), "no field 0"),
        (framed(b"\x0b"), "wire type 3"),
    ],
)
def test_bad_frames(body, says):
    name, error = read_name(body)
    assert name is None
    assert says in error.decode()


def test_a_small_message_is_read_once():
    message = framed(oip.ModelInferRequest(model_name="digits").SerializeToString())
    handle = lua.eval(b"""
        function(message)
            local body, self = { reads = 0 }, {}
            function body:length() return #message end
            function body:getBytes(offset, count)
                self.reads = self.reads + 1
                return string.sub(message, offset + 1, offset + count)
            end
            function body:setBytes(bytes) self.renamed = bytes end
            function self:body() return body end
            function self:headers() return { replace = function() end } end
            function self:clearRouteCache() end
            function self:metadata() end
            function self:streamInfo() return { routeName = function() return "pod:p r1" end } end
            return self
        end
    """)(message)
    inference = require("inference", lua)
    body, _, start, name = inference.read(handle)
    inference.send(handle, body, start, name)
    assert oip.ModelInferRequest.FromString(body[b"renamed"][5:]).model_name == "r1"
    assert body[b"reads"] == 1
