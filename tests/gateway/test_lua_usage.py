"""How a script counts what it keeps for the mesh: the calls it makes are given what the mesh would answer."""

from __future__ import annotations

import pytest

from shoal_protos.usage.usage_pb2 import UsageReport
from support.lua import runtime

TICK = """
local sent, status = {}, {...}
local handle = {
  streamInfo = function() return { downstreamLocalAddress = function() return "@shoal/here" end } end,
  httpCall = function(self, cluster, headers, body)
    sent[#sent + 1] = body
    if status[1] == "gone" then coroutine.yield() end
    return { [":status"] = status[1], ["grpc-status"] = status[2] }
  end,
  respond = function() end,
}
coroutine.wrap(require("shoal.usage").tick)(handle)
return sent[1]
"""
TAKEN, AWAY, BROKEN, GONE = ("200",), ("503",), ("200", "13"), ("gone",)


@pytest.fixture
def lua():
    return runtime()


def count(lua, name: str, times: int = 1) -> None:
    counted = lua.eval(b'require("shoal.usage").count')
    for _ in range(times):
        counted(name.encode())


def tick(lua, answer: tuple[str, ...] = TAKEN) -> dict[str, int]:
    """What is sent to a mesh that answers so."""
    body = lua.execute(TICK.encode(), *(part.encode() for part in answer))
    if body is None:
        return {}
    assert body[:5] == b"\0" + len(body[5:]).to_bytes(4, "big")
    return {used.route: used.requests for used in UsageReport.FromString(body[5:]).used}


def test_a_report_has_what_came_since_the_last(lua):
    assert tick(lua) == {}
    count(lua, "a", 300)
    count(lua, "revision:b" * 20)
    assert tick(lua) == {"a": 300, "revision:b" * 20: 1}
    count(lua, "c")
    assert tick(lua) == {"c": 1}
    assert tick(lua) == {}


@pytest.mark.parametrize("answer", [AWAY, BROKEN, GONE])
def test_what_the_mesh_did_not_take_is_sent_again(lua, answer):
    count(lua, "a", 2)
    assert tick(lua, answer) == {"a": 2}
    count(lua, "a")
    count(lua, "b")
    assert tick(lua, answer) == {"a": 3, "b": 1}
    assert tick(lua) == {"a": 3, "b": 1}
    assert tick(lua) == {}


def test_names_that_clients_make_up_are_counted_up_to_a_limit(lua):
    count(lua, "known")
    for number in range(5):
        count(lua, str(number) * (1 << 20))
    count(lua, "known")
    for answer in (AWAY, AWAY, TAKEN):
        sent = tick(lua, answer)
        assert sent["known"] == 2
        assert sum(map(len, sent)) < 4 << 20
        count(lua, "new" * (1 << 19))  # finds no room with the others that are still to be sent
    assert list(tick(lua)) == ["new" * (1 << 19)]
