"""Elements and bytes of every datatype, there and back, and against numpy."""

from __future__ import annotations

import math
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.oip.datatypes import DATATYPES
from shoal.oip.tensors import CutShortError, MalformedTensorError, flat, pack, texts, unpack

SIZED = [name for name, datatype in DATATYPES.items() if datatype.size]


def raw_of(name):
    if name == "BOOL":
        return st.lists(st.sampled_from([b"\0", b"\1"])).map(b"".join)
    size = DATATYPES[name].size
    return st.binary(max_size=64).map(lambda raw: raw[: len(raw) // size * size])


@pytest.mark.parametrize("name", SIZED)
@settings(deadline=None)
@given(data=st.data())
def test_bytes_come_back(name, data):
    datatype, raw = DATATYPES[name], data.draw(raw_of(name))
    elements = unpack(datatype, raw)
    again = pack(datatype, elements)
    assert len(elements) * datatype.size == len(again) == len(raw)
    for at, element in enumerate(elements):
        place = slice(at * datatype.size, (at + 1) * datatype.size)
        if math.isnan(element):  # which of the many there are is not kept
            assert math.isnan(*unpack(datatype, again[place]))
        else:
            assert again[place] == raw[place]


@pytest.mark.parametrize("name", SIZED)
@settings(deadline=None)
@given(data=st.data())
def test_elements_are_those_that_numpy_reads(name, data):
    datatype, raw = DATATYPES[name], data.draw(raw_of(name))
    kind = np.dtype(datatype.numpy).newbyteorder("<") if datatype.numpy else np.dtype(ml_dtypes.bfloat16)
    assert np.array_equal(unpack(datatype, raw), np.frombuffer(raw, kind).tolist(), equal_nan=datatype.floating)


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False))
def test_numbers_become_the_nearest_of_bf16(number):
    assert pack(DATATYPES["BF16"], [number]) == np.array([number], ml_dtypes.bfloat16).tobytes()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20)))
def test_text_comes_back(elements):
    datatype = DATATYPES["BYTES"]
    raw = pack(datatype, elements)
    assert unpack(datatype, raw) == tuple(elements)
    assert list(texts(memoryview(raw))) == elements


@settings(deadline=None)
@given(st.binary(max_size=24))
def test_whatever_is_read_as_text_is_that_text(raw):
    datatype = DATATYPES["BYTES"]
    try:
        elements = unpack(datatype, raw)
    except CutShortError:
        return
    assert pack(datatype, elements) == raw


@pytest.mark.parametrize("tail", [b"\1", b"\1\0\0", b"\1\0\0\0", b"\xff\xff\xff\xff"])
def test_text_that_is_cut_short_says_in_which_element(tail):
    with pytest.raises(CutShortError) as cut:
        unpack(DATATYPES["BYTES"], struct.pack("<I", 1) + b"a" + tail)
    assert cut.value.element == 1


def test_lists_too_deep_are_refused_where_there_is_a_limit():
    assert list(flat([[1], (2, [3])], 3)) == [1, 2, 3]
    with pytest.raises(MalformedTensorError, match="nested deeper than 2"):
        list(flat([[1], (2, [3])], 2))
