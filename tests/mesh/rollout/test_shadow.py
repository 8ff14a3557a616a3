"""Shadowed requests against real model servers: compared, counted, bounded, and never in the client's way."""

import asyncio
import contextlib
from dataclasses import replace

import grpc
import pytest
from prometheus_client import CollectorRegistry

from shoal.core.actions import Forward
from shoal.core.rollout.measure import score_bucket
from shoal.core.rollout.plan import Plan
from shoal.core.rollout.record import Phase, Rollout
from shoal.core.types import RouteKey
from shoal.mesh.checks.forwarded import first_attempt
from shoal.mesh.checks.observer import Observer
from shoal.mesh.checks.shadow import MAX_BODY, Exchange, Shadower
from shoal.mesh.errors import RequestError
from shoal.mesh.pods.copy_errors import CopyGoneError, PodUnreachableError, translated
from shoal.mesh.pods.in_flight import InFlight
from shoal.oip.answers import outputs_of_message
from shoal_protos import inference as oip
from support.mesh_rollout import refuse
from waiting import until

pytestmark = pytest.mark.server

KEY = RouteKey("digits")
ACTIVE = Forward("pod-0", "old")
ROLLOUT = Rollout("r1", "digits", "old", "new", Plan(), 0.0, phase=Phase.PROGRESSING, shadow=200)
REQUEST = oip.ModelInferRequest(model_name="digits").SerializeToString()


def numbers(*values):
    response = oip.ModelInferResponse()
    output = response.outputs.add(name="y", datatype="FP64", shape=[len(values)])
    output.contents.fp64_contents.extend(values)
    return response


class Shadowing:
    def __init__(self, pods, **limits):
        self.pods = pods
        self.events = []
        self.rollout = ROLLOUT
        self.in_flight = InFlight()
        self.registry = CollectorRegistry()
        self.observer = Observer(self.events.append, self.live)
        self.shadower = Shadower(
            self.observer,
            self.live,
            lambda revision: tuple(pods.links) if revision == "new" else (),
            pods.links.get,
            self.in_flight,
            self.registry,
            **limits,
        )

    def live(self, endpoint):
        return self.rollout if endpoint == "digits" else None

    def outcomes(self):
        samples = self.registry.collect()
        return {
            sample.labels["outcome"]: sample.value
            for metric in samples
            for sample in metric.samples
            if sample.name.endswith("_total")
        }

    def answered(self, answer=None, key=KEY, forward=ACTIVE, request=REQUEST):
        answer = answer if isinstance(answer, bytes) else (answer or numbers(1.0)).SerializeToString()

        async def again(link, forward, timeout):
            try:
                return await link.inference.unary_unary(oip.method_path("ModelInfer"))(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                raise translated(error, forward) or error from error

        self.shadower.answered(key, forward, Exchange(len(request), answer, again, outputs_of_message, lambda: request))

    async def settle(self, **outcomes):
        """Wait for exactly these outcomes, and return what was observed."""
        await until(lambda: self.outcomes() == outcomes, f"{outcomes}, not {self.outcomes()}")
        self.observer.flush()
        events, self.events[:] = list(self.events), []
        return {seen.revision: seen for event in events for seen in event.observations}


@pytest.fixture
async def shadowing(pods):
    shadowing = Shadowing(pods)
    yield shadowing
    await shadowing.shadower.close()


async def test_the_target_answers_the_same_request_and_both_are_compared(shadowing, pods):
    server = await pods("pod-1")
    server.answer = lambda request: numbers(1.0, 2.0)
    shadowing.answered(numbers(1.0, 2.00001))
    seen = await shadowing.settle(agreed=1)
    new, old = seen["new"], seen["old"]
    assert (new.requests, new.errors, new.compared, new.disagreed) == (1, 0, 1, 0)
    assert sum(count for _, count in new.latencies) == 1
    assert dict(new.scores) == {score_bucket(1.0): 1, score_bucket(2.0): 1}
    assert (old.requests, sum(count for _, count in old.scores)) == (0, 2)
    shadowing.answered(numbers(1.0, 3.0))
    seen = await shadowing.settle(agreed=1, disagreed=1)
    assert (seen["new"].compared, seen["new"].disagreed) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"key": RouteKey("digits", is_revision=True)},
        {"key": RouteKey("digits", canary=True)},
        {"key": RouteKey("other")},
        {"forward": Forward("pod-1", "new")},
    ],
)
async def test_only_requests_of_the_endpoint_answered_by_its_active_revision_are_shadowed(shadowing, pods, change):
    server = await pods("pod-1")
    shadowing.answered(**change)
    shadowing.answered()
    await until(shadowing.outcomes, "the other request")
    assert len(server.asked) == 1


@pytest.mark.parametrize("change", [{"shadow": 0}, {"phase": Phase.ROLLED_BACK}])
async def test_nothing_is_shadowed_unless_the_rollout_says_so_now(shadowing, pods, change):
    server = await pods("pod-1")
    shadowing.rollout = replace(ROLLOUT, **change)
    shadowing.answered()
    shadowing.rollout = ROLLOUT
    shadowing.answered()
    await until(shadowing.outcomes, "the other request")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE]
)
async def test_a_target_that_fails_where_the_active_revision_did_not_is_an_error(shadowing, pods, code):
    server = await pods("pod-1")
    server.answer = refuse(code, "no such feature")
    shadowing.answered()
    seen = await shadowing.settle(failed=1)
    assert (seen["new"].requests, seen["new"].errors, seen["new"].compared) == (1, 1, 0)
    assert "old" not in seen


async def test_a_target_that_is_too_slow_is_an_error(pods):
    shadowing = Shadowing(pods, timeout=0.2)
    server = await pods("pod-1")
    server.gate.clear()
    shadowing.answered()
    seen = await shadowing.settle(failed=1)
    assert (seen["new"].requests, seen["new"].errors) == (1, 1)


async def test_an_evicted_copy_says_nothing_of_its_revision(shadowing, pods):
    server = await pods("pod-1")
    server.loaded = False
    shadowing.answered()
    assert await shadowing.settle(no_copy=1) == {}
    # The model is there, and itself says NOT_FOUND.
    server.loaded, server.answer = True, refuse(grpc.StatusCode.NOT_FOUND, "no such user")
    shadowing.answered()
    assert (await shadowing.settle(no_copy=1, failed=1))["new"].errors == 1


async def test_without_a_copy_nothing_is_shadowed(shadowing, pods):
    shadowing.answered()
    assert await shadowing.settle(no_copy=1) == {}


async def test_all_copies_are_asked_in_turn(shadowing, pods):
    servers = [await pods(f"pod-{number}") for number in range(3)]
    for _ in range(9):
        shadowing.answered()
    await until(lambda: shadowing.outcomes().get("disagreed") == 9, "all answers")
    assert [len(server.asked) for server in servers] == [3, 3, 3]


async def test_more_than_can_be_shadowed_at_once_is_dropped_without_waiting(pods):
    shadowing = Shadowing(pods, max_at_once=2)
    server = await pods("pod-1")
    server.answer = lambda request: numbers(1.0)
    server.gate.clear()
    for _ in range(5):
        shadowing.answered()
    await until(lambda: len(server.asked) == 2, "two requests")
    assert shadowing.outcomes() == {"dropped": 3}
    server.gate.set()
    await shadowing.settle(dropped=3, agreed=2)
    shadowing.answered()
    await shadowing.settle(dropped=3, agreed=3)


async def test_large_bodies_are_not_shadowed(shadowing, pods):
    server = await pods("pod-1")
    shadowing.answered(bytes(MAX_BODY + 1))
    assert await shadowing.settle(too_large=1) == {}
    assert server.asked == []


async def test_large_answers_are_compared_too(shadowing, pods):
    server = await pods("pod-1")
    values = [float(number) for number in range(10_000)]
    server.answer = lambda request: numbers(*values)
    shadowing.answered(numbers(*values))
    await shadowing.settle(agreed=1)
    shadowing.answered(numbers(*values[:-1], 0.0))
    await shadowing.settle(agreed=1, disagreed=1)


async def test_an_answer_of_the_active_revision_that_cannot_be_read_is_not_held_against_the_target(shadowing, pods):
    await pods("pod-1")
    shadowing.answered(b"\xff\xff")
    seen = await shadowing.settle(unreadable=1)
    assert (seen["new"].compared, seen["new"].errors) == (0, 0)


async def test_a_copy_is_not_unloaded_while_it_is_asked(shadowing, pods):
    server = await pods("pod-1")
    server.gate.clear()
    shadowing.answered()
    await until(lambda: server.asked, "the request")
    idle = asyncio.create_task(shadowing.in_flight.idle("pod-1", "new"))
    await asyncio.sleep(0)
    assert not idle.done()
    server.gate.set()
    await asyncio.wait_for(idle, 5)


async def test_closing_gives_up_and_lets_copies_go(shadowing, pods):
    server = await pods("pod-1")
    server.gate.clear()
    shadowing.answered()
    await until(lambda: server.asked, "the request")
    await asyncio.wait_for(shadowing.shadower.close(), 5)
    await asyncio.wait_for(shadowing.in_flight.idle("pod-1", "new"), 5)


async def test_a_connection_that_is_closed_meanwhile_says_nothing(shadowing, pods):
    server = await pods("pod-1")
    server.gate.clear()
    shadowing.answered()
    await until(lambda: server.asked, "the request")
    await pods.links["pod-1"].inference.close()
    await asyncio.wait_for(shadowing.in_flight.idle("pod-1", "new"), 5)
    shadowing.answered()
    assert await shadowing.settle(no_copy=2) == {}


# --- what the activator forwards -------------------------------------------------------------------------------------


def failure(code):
    return RequestError(code, "")


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (None, 0),
        (failure(grpc.StatusCode.INVALID_ARGUMENT), 1),
        (failure(grpc.StatusCode.PERMISSION_DENIED), 0),
        (failure(grpc.StatusCode.NOT_FOUND), 0),
        (failure(grpc.StatusCode.INTERNAL), 1),
        (failure(grpc.StatusCode.DEADLINE_EXCEEDED), 1),
        (PodUnreachableError(""), 1),
        (CopyGoneError(""), None),
        (asyncio.CancelledError(), None),
    ],
)
async def test_attempts_count_as_errors_like_those_at_gateways(shadowing, error, counted):
    with contextlib.suppress(type(error)), shadowing.shadower.attempt(KEY, ACTIVE):
        if error:
            raise error
    seen = await shadowing.settle()
    if counted is None:
        assert seen == {}
    else:
        assert (seen["old"].requests, seen["old"].errors) == (1, counted)


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (403, 0), (400, 1), (422, 1), (500, 1), (503, 1)])
async def test_http_answers_count_by_their_status(shadowing, status, errors):
    with shadowing.shadower.attempt(KEY, ACTIVE) as attempt:
        attempt.status = status
    assert (await shadowing.settle())["old"].errors == errors


@pytest.mark.parametrize(
    ("headers", "first"),
    [
        ([], True),
        ([("x-envoy-attempt-count", "1")], True),
        ([("a", "2"), ("x-envoy-attempt-count", "2")], False),
    ],
)
def test_gateways_say_whether_a_request_failed_elsewhere_before(headers, first):
    assert first_attempt(headers) is first


async def test_answered_requests_are_remembered_for_warming_up(shadowing):
    shadowing.rollout = None
    shadowing.answered()
    shadowing.answered(key=RouteKey("digits", is_revision=True))
    assert shadowing.shadower.recent.of("digits") == [REQUEST]
