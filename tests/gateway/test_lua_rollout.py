"""The script of rollouts, without Envoy: what is tried again, and what is noted."""

from __future__ import annotations

import pytest

from support.lua import runtime

HANDLE = b"""
function(headers)
    local noted = {}
    local metadata = {
        get = function(_, filter) return noted[filter] end,
        set = function(_, filter, key, value)
            noted[filter] = noted[filter] or {}
            noted[filter][key] = value
        end,
    }
    EnvoyTimestampResolution = { MICROSECOND = 1 }
    return {
        headers = function() return {
            get = function(_, name) return headers[name] end,
            replace = function(_, name, value) headers[name] = value end,
            remove = function(_, name) headers[name] = nil end,
        } end,
        streamInfo = function() return { dynamicMetadata = function() return metadata end } end,
        timestampString = function() return "1700000000000000" end,
        noted = noted,
    }
end
"""


class Handle:
    """A request as Envoy hands it to scripts; `lua` has their globals."""

    def __init__(self, module: str, headers: dict[str, str]) -> None:
        self.lua = runtime()
        self.lua.eval(f'require("shoal.{module}")'.encode())
        self.headers = self.lua.table_from({k.encode(): v.encode() for k, v in headers.items()})
        self.handle = self.lua.eval(HANDLE)(self.headers)

    def call(self, function: str) -> object:
        return self.lua.globals()[function.encode()](self.handle)

    def note(self, attempt: str) -> dict[bytes, object] | None:
        notes = self.handle[b"noted"][b"shoal.attempts"]
        return None if notes is None or notes[attempt.encode()] is None else dict(notes[attempt.encode()])


def answer(**headers: str) -> Handle:
    given = {":status": "200"} | {key.replace("_", "-"): value for key, value in headers.items()}
    if "status" in given:
        given[":status"] = given.pop("status")
    handle = Handle("upstream_rollout", given)
    handle.call("envoy_on_response")
    return handle


@pytest.mark.parametrize(
    ("headers", "again"),
    [
        ({}, False),
        ({"grpc_status": "13"}, False),
        ({"grpc_status": "13", "x_shoal_shielded": "1"}, True),
        ({"grpc_status": "3", "x_shoal_shielded": "1"}, True),
        ({"grpc_status": "0", "x_shoal_shielded": "1"}, False),
        ({"grpc_status": "8", "x_shoal_shielded": "1"}, False),
        ({"status": "500"}, False),
        ({"status": "500", "x_shoal_shielded": "1"}, True),
        ({"status": "422", "x_shoal_shielded": "1"}, True),
        ({"status": "429", "x_shoal_shielded": "1"}, False),
        ({"status": "404"}, True),
        ({"status": "503"}, True),
        ({"status": "404", "x_shoal_served": "cold"}, False),
    ],
)
def test_what_is_tried_again(headers, again):
    handle = answer(**headers)
    assert (handle.headers[b"x-shoal-again"] == b"1") is again
    assert handle.headers[b"x-shoal-shielded"] is None


def test_attempts_at_watched_copies_are_noted():
    handle = Handle(
        "upstream_rollout",
        {
            "x-envoy-attempt-count": "1",
            "x-shoal-watched": "1",
            "mm-model-id": "new",
            ":path": "/other",
            ":status": "503",
        },
    )
    handle.call("envoy_on_request")
    assert handle.note("1") == {b"from": 1.7e15, b"revision": b"new"}
    assert handle.headers[b"x-shoal-watched"] is None
    handle.call("envoy_on_response")
    assert handle.note("1") == {b"from": 1.7e15, b"revision": b"new", b"to": 1.7e15, b"status": b"503"}
    handle.headers[b"x-envoy-attempt-count"] = b"2"
    handle.headers[b"mm-model-id"] = None
    handle.call("envoy_on_request")
    assert handle.note("2") == {b"from": 1.7e15}


def test_other_attempts_are_not():
    handle = Handle("upstream_rollout", {"x-envoy-attempt-count": "1", "mm-model-id": "new", ":path": "/other"})
    handle.call("envoy_on_request")
    assert handle.note("1") is None
