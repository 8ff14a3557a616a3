"""How entries of Envoy's access log are read: every way a request can end."""

from __future__ import annotations

import pytest

from shoal.core.types import RouteKey
from shoal.gateway.names import ATTEMPTS
from shoal.gateway.watched_requests import attempts
from shoal_protos.xds.access_log_pb2 import HTTPAccessLogEntry

REVISION = "digits__isvc-1"
START = 1_700_000_000_000_000
"""Microseconds, as notes have it."""


def entry(notes: dict[int, dict[str, object]] | None = None, *, route: str = "digits") -> HTTPAccessLogEntry:
    """A request whose attempts have these notes; the default is one attempt, at a watched copy."""
    notes = {1: {"revision": REVISION, "from": START}} if notes is None else notes
    made = HTTPAccessLogEntry()
    common = made.common_properties
    made.request.request_headers["x-shoal-route"] = route
    common.upstream_request_attempt_count = max(notes, default=1)
    common.time_to_first_upstream_tx_byte.FromMilliseconds(2)
    common.time_to_first_upstream_rx_byte.FromMilliseconds(12)
    common.time_to_last_upstream_rx_byte.FromMilliseconds(32)
    common.duration.FromMilliseconds(1000)
    for number, note in notes.items():
        common.metadata.filter_metadata[ATTEMPTS][str(number)] = note
    made.response.response_code.value = 200
    return made


def test_the_time_is_the_copys():
    [seen] = attempts(entry())
    assert (seen.key, seen.revision, seen.milliseconds, seen.error) == (RouteKey("digits"), REVISION, 30.0, False)


@pytest.mark.parametrize(
    "path", ["/inference.GRPCInferenceService/ModelStreamInfer", "/v2/models/a/generate_stream?x=1"]
)
def test_the_time_of_a_stream_is_that_to_its_first_answer(path):
    made = entry()
    made.request.path = path
    assert [seen.milliseconds for seen in attempts(made)] == [10.0]


@pytest.mark.parametrize(
    ("route", "key"),
    [
        ("http:a%20b", RouteKey("a b")),
        ("canary:digits", RouteKey("digits", canary=True)),
        ("http-revision:digits", RouteKey("digits", is_revision=True)),
        ("stable:digits", RouteKey("digits")),
        ("http-stable:digits", RouteKey("digits")),
    ],
)
def test_requests_are_of_the_route_they_were_meant_for(route, key):
    assert [seen.key for seen in attempts(entry(route=route))] == [key]


def test_requests_that_are_of_no_route_are_left_out():
    assert not list(attempts(entry(route="shoal:activator-grpc")))
    made = entry()
    made.request.request_headers.clear()
    assert not list(attempts(made))


def test_every_failed_attempt_counts_and_the_last_as_it_ended():
    notes = {
        1: {"revision": "a", "from": START, "to": START + 5000, "status": "13"},
        2: {"revision": "b", "from": START + 9000},  # no answer at all
        3: {"from": START + 11_000},  # not watched
        4: {"revision": "a", "from": START + 20_000},
    }
    seen = list(attempts(entry(notes)))
    assert [(s.revision, s.milliseconds, s.error) for s in seen] == [
        ("a", 5.0, True),
        ("b", 2.0, True),
        ("a", 30.0, False),
    ]


@pytest.mark.parametrize("status", ["5", "404"])
def test_a_copy_that_lost_its_model_is_left_out(status):
    notes = {1: {"revision": "a", "from": START, "to": START + 5000, "status": status}, 2: {"from": START}}
    assert not list(attempts(entry(notes)))


def failed(made: HTTPAccessLogEntry) -> bool:
    [seen] = attempts(made)
    return seen.error


@pytest.mark.parametrize("where", ["response_headers", "response_trailers"])
@pytest.mark.parametrize(("status", "error"), [("0", False), ("13", True), ("4", True), ("3", True), ("8", False)])
def test_grpc_statuses(where, status, error):
    made = entry()
    getattr(made.response, where)["grpc-status"] = status
    assert failed(made) is error


@pytest.mark.parametrize(
    ("code", "error"), [(0, True), (200, False), (400, True), (404, False), (422, True), (429, False), (503, True)]
)
def test_http_statuses(code, error):
    made = entry()
    made.response.response_code.value = code
    assert failed(made) is error


@pytest.mark.parametrize("flag", ["downstream_remote_reset", "downstream_connection_termination"])
@pytest.mark.parametrize(
    ("timeout", "error"),
    [(None, False), ("1S", True), ("1050m", True), ("2S", False), ("1M", False), ("1000000u", True), ("soon", False)],
)
def test_a_client_that_leaves(flag, timeout, error):
    """The request had lasted a second."""
    made = entry()
    made.common_properties.ClearField("time_to_last_upstream_rx_byte")
    setattr(made.common_properties.response_flags, flag, True)
    made.response.ClearField("response_code")
    if timeout:
        made.request.request_headers["grpc-timeout"] = timeout
    [seen] = attempts(made)
    assert (seen.error, seen.milliseconds) == (error, 998.0)
