"""Which model a request names."""

import grpc
import pytest

from shoal.core.types import RouteKey
from shoal.mesh.errors import RequestError
from shoal.mesh.naming import forwarded_headers, key_from_headers, key_from_message, steered
from shoal_protos import inference as oip

INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([], None),
        ([("mm-vmodel-id", "a")], RouteKey("a")),
        ([("mm-vmodel-id-bin", "ä".encode())], RouteKey("ä")),
        ([("mm-vmodel-id-bin", "w6Q=")], RouteKey("ä")),
        ([("mm-vmodel-id-bin", "w6Q")], RouteKey("ä")),
        ([("mm-model-id", "a__isvc-1")], RouteKey("a__isvc-1", is_revision=True)),
        ([("mm-model-id", "a"), ("mm-model-id-bin", b"a")], RouteKey("a", is_revision=True)),
        ([("mm-vmodel-id", "a"), ("mm-revision", "a-1")], RouteKey("a-1", is_revision=True)),
    ],
)
def test_headers_name_a_model(headers, key):
    assert key_from_headers(headers) == key


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ([("mm-vmodel-id", "a"), ("mm-model-id", "b")], "only one of"),
        ([("mm-vmodel-id", "")], "is empty"),
        ([("mm-vmodel-id", "a"), ("mm-vmodel-id", "b")], "twice"),
    ],
)
def test_ambiguous_headers_are_refused(headers, problem):
    with pytest.raises(RequestError, match=problem) as caught:
        key_from_headers(headers)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_the_canary_is_asked_for_by_header():
    always = [("x-shoal-canary", "always")]
    assert steered(RouteKey("a"), always) == RouteKey("a", canary=True)
    assert steered(RouteKey("a"), [("x-shoal-canary", "never")]) == RouteKey("a")
    assert steered(RouteKey("a-1", is_revision=True), always) == RouteKey("a-1", is_revision=True)


def test_messages_name_a_model():
    message = oip.ModelInferRequest(model_name="digits").SerializeToString()
    assert key_from_message(INFER, message) == RouteKey("digits")


@pytest.mark.parametrize(
    ("method", "message", "problem"),
    [
        (INFER, b"", "names no model"),
        (INFER, b"\x0a\x09x", "malformed request"),
        ("/my.Service/Call", b"", "must include the header"),
    ],
)
def test_messages_without_a_name_are_refused(method, message, problem):
    with pytest.raises(RequestError, match=problem) as caught:
        key_from_message(method, message)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_model_servers_get_the_clients_headers_and_the_concrete_id():
    headers = [("user", "me"), ("mm-vmodel-id", "a"), ("grpc-timeout", "1S"), ("user-agent", "x"), ("token-bin", b"\1")]
    assert forwarded_headers(headers, "a__isvc-1") == [
        ("user", "me"),
        ("token-bin", b"\1"),
        ("mm-model-id-bin", b"a__isvc-1"),
        ("mm-model-id", "a__isvc-1"),
    ]
    assert ("mm-model-id-bin", "ä".encode()) in forwarded_headers([], "ä")
    assert not any(name == "mm-model-id" for name, _ in forwarded_headers([], "ä"))
