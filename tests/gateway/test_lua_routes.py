"""Where requests go, without Envoy: by the model's route if there is one, otherwise to the activator."""

from __future__ import annotations

import pytest

from support.lua import runtime

HANDLE = b"""
function(headers, routes)
    local name = ""
    local noted = {}
    local handle = { noted = noted }
    function handle:clearRouteCache() name = "" end
    function handle:metadata() name = routes[headers["x-shoal-route"]] or "" end -- Envoy looks when it must
    function handle:streamInfo()
        return {
            dynamicMetadata = function() return { set = function(_, _, key, value) noted[key] = value end } end,
            routeName = function() return name end,
        }
    end
    local wrapped = {
        get = function(_, name) return headers[name] end,
        replace = function(_, name, value) headers[name] = value end,
        remove = function(_, name) headers[name] = nil end,
    }
    return function(routes_module, key, activator, length)
        return routes_module.send(handle, wrapped, key, activator, length)
    end, noted
end
"""
COPY = "pod:p r1"
SEVERAL = "by-attempt"
ACTIVATOR = "shoal:activator-grpc"


def send(key: str, routes: dict[str, str], length: int | None = None):
    """The revision to name, the headers, and what was noted."""
    lua = runtime()
    module = lua.eval(b'require("shoal.routes")')
    headers = lua.table()
    known = lua.table_from({key.encode(): name.encode() for key, name in routes.items()})
    call, noted = lua.eval(HANDLE)(headers, known)
    activator = b"shoal:activator-http" if key.startswith("http") else ACTIVATOR.encode()
    revision = call(module, key.encode(), activator, length)
    return revision, {k.decode(): v.decode() for k, v in headers.items()}, {k.decode(): v for k, v in noted.items()}


@pytest.mark.parametrize(
    ("key", "routes", "leads_to", "asked_for"),
    [
        ("a", {"a": COPY}, "a", None),
        ("a", {"a": SEVERAL}, "a", None),
        ("a", {}, ACTIVATOR, "a"),
        ("http:a", {"a": COPY}, "shoal:activator-http", "http:a"),
        ("http-revision:a", {"http-revision:a": COPY}, "http-revision:a", None),
        ("canary:a", {"a": COPY}, ACTIVATOR, "canary:a"),
        ("canary:a", {"a": COPY, "canary:a": COPY}, "canary:a", None),
        ("stable:a", {}, ACTIVATOR, "stable:a"),
        ("stable:a", {"a": COPY}, "a", None),
        ("stable:a", {"a": SEVERAL}, ACTIVATOR, "stable:a"),
        ("stable:a", {"a": COPY, "canary:a": COPY}, "a", None),
        ("stable:a", {"a": COPY, "http-canary:a": COPY}, "a", None),
        ("http-stable:a", {"http:a": COPY}, "http:a", None),
        ("http-stable:a", {"http:a": SEVERAL, "http-canary:a": COPY}, "shoal:activator-http", "http-stable:a"),
        ("http-stable:a", {"a": COPY}, "shoal:activator-http", "http-stable:a"),
    ],
)
def test_where_a_request_goes(key, routes, leads_to, asked_for):
    revision, headers, _ = send(key, routes)
    assert (headers["x-shoal-route"], headers.get("x-shoal-for")) == (leads_to, asked_for)
    copied = routes.get(leads_to) == COPY
    assert revision == (b"r1" if copied else None)
    assert headers.get("mm-model-id") == ("r1" if copied else None)


def test_a_revision_may_have_any_name():
    assert send("a", {"a": "pod:p my model 1"})[0] == b"my model 1"


@pytest.mark.parametrize(("length", "large"), [(65536, False), (65537, True), (None, False)])
def test_large_messages_go_by_connections_of_their_own(length, large):
    revision, headers, noted = send("a", {"a": COPY}, length)
    assert revision == b"r1"
    assert headers["x-shoal-route"] == ("shoal:large:pod:p" if large else "a")
    assert headers.get("x-shoal-for") == ("a" if large else None)
    assert noted == ({"revision": b"r1", "route": b"a"} if large else {})
