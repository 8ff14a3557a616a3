"""Names on both sides of xDS are the same."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.core.types import RouteKey
from shoal.gateway.names import ACTIVATOR_GRPC, carries_http, escape, grpc_route, http_route, route_key
from support.lua import require, runtime

lua = runtime()
names = require("names", lua)
KEYS = st.builds(RouteKey, st.text(), is_revision=st.booleans()) | st.builds(RouteKey, st.text(), canary=st.booleans())


def headers(**given):
    """Request headers as Envoy hands them to scripts."""
    make = lua.eval(
        b"""function(given)
            return {
                get = function(_, name) return given[name] end,
                remove = function(_, name) given[name] = nil end,
            }
        end"""
    )
    table = lua.table_from({key.replace("_", "-").encode(): value.encode() for key, value in given.items()})
    return make(table), table


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


@given(KEYS)
def test_routes_tell_what_they_are_for(key):
    assert route_key(grpc_route(key)) == key
    assert route_key(http_route(key)) == key
    assert not carries_http(grpc_route(key))
    assert carries_http(http_route(key))


@pytest.mark.parametrize("name", [ACTIVATOR_GRPC, "other:digits"])
def test_other_routes_are_of_no_key(name):
    with pytest.raises(ValueError):
        route_key(name)


@pytest.mark.parametrize(
    ("given", "name", "is_revision"),
    [
        ({}, None, False),
        ({"mm_vmodel_id": "digits"}, b"digits", False),
        ({"mm_model_id": "rev"}, b"rev", True),
        ({"mm_revision": "rev"}, b"rev", True),
        ({"mm_revision": "rev", "mm_model_id": "rev"}, b"rev", True),
        ({"mm_revision": "rev", "tas_model_id": "rev"}, b"rev", True),
    ],
)
def test_names_in_headers(given, name, is_revision):
    found = names.from_headers(headers(**given)[0])
    assert (found[0], found[1]) == (name, is_revision)


def test_mm_revision_takes_other_names_away():
    given, table = headers(mm_revision="rev", mm_vmodel_id="digits", mm_vmodel_id_bin="eA==")
    names.from_headers(given)
    assert list(table) == [b"mm-revision"]


@pytest.mark.parametrize(
    ("given", "is_revision", "kind"),
    [
        ({}, False, b""),
        ({}, True, b"revision:"),
        ({"x_shoal_canary": "always"}, False, b"canary:"),
        ({"x_shoal_canary": "never"}, False, b"stable:"),
    ],
)
def test_kinds_of_routes(given, is_revision, kind):
    assert names.kind(headers(**given)[0], is_revision) == kind


@pytest.mark.parametrize(
    ("value", "is_revision", "says"),
    [("Always", False, b"must be always or never, not Always"), ("never", True, b"is for endpoints")],
)
def test_wishes_that_cannot_be_met(value, is_revision, says):
    kind, bad = names.kind(headers(x_shoal_canary=value)[0], is_revision)
    assert kind is None
    assert says in bad
