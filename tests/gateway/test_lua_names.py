"""Names on both sides of xDS are the same."""

from __future__ import annotations

import base64
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from lua_support import require
from shoal.gateway.names import escape

names = require("names")


@given(st.text())
def test_both_sides_escape_alike(name):
    assert names.escape(name.encode()).decode() == escape(name)
    assert names.unescape(escape(name).encode()) == name.encode()
    assert ":" not in escape(name)


@given(st.text())
def test_paths_are_unescaped(name):
    assert names.unescape(quote(name, safe="").encode()) == name.encode()


def test_bad_escapes():
    assert names.unescape(b"a%2") is None
    assert names.unescape(b"%zz") is None


@given(st.binary())
def test_base64(data):
    encoded = base64.b64encode(data)
    assert names.base64_encode(data) == encoded
    assert names.base64_decode(encoded) == data
    assert names.base64_decode(encoded.rstrip(b"=")) == data


def test_what_is_not_base64():
    assert names.base64_decode(b"a") is None
    assert names.base64_decode(b"a!aa") is None
