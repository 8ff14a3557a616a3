"""Warming up copies on real gRPC servers."""

import asyncio

import grpc
import pytest

from shoal.core.actions import WarmUpCopies
from shoal.core.rollout.plan import WarmUp
from shoal.mesh.api import ModelInfo
from shoal.mesh.checks.samples import CannotMakeError, made_up
from shoal.mesh.checks.warmup import CopyWarmer
from shoal.mesh.pods.in_flight import InFlight
from shoal_protos import inference as oip
from support.mesh_rollout import refuse
from waiting import until

pytestmark = pytest.mark.server


INFOS = {"new": ModelInfo("rt:test", "models/new")}


def message(id):
    return oip.ModelInferRequest(model_name="elsewhere", id=id).SerializeToString()


class Warming:
    def __init__(self, pods):
        self.pods = pods
        self.events = []
        self.packaged, self.recent, self.unreadable = [], [], None
        self.in_flight = InFlight()
        self.warmer = CopyWarmer(
            self.events.append, pods.links.get, self.in_flight, INFOS.get, lambda endpoint: self.recent
        )
        self.warmer.samples = self.samples

    async def samples(self, info):
        assert info is INFOS["new"]
        if self.unreadable:
            raise self.unreadable
        return self.packaged

    def start(self, *, requests=3, timeout=10.0, pods=None, rollout="r1"):
        pods = tuple(self.pods.links if pods is None else pods)
        self.warmer.start(WarmUpCopies("digits", rollout, "new", pods, WarmUp(requests, timeout)))

    async def run(self, **more):
        self.start(**more)
        await until(lambda: self.events, "the end of the warm-up", 20)
        (event,) = self.events
        self.events.clear()
        assert (event.endpoint, event.rollout) == ("digits", "r1")
        return event.failure


@pytest.fixture
async def warming(pods):
    warming = Warming(pods)
    yield warming
    await warming.warmer.close()


async def test_every_copy_answers_the_packages_samples_in_turn(warming, pods):
    one, two = await pods("pod-1"), await pods("pod-2")
    warming.packaged, warming.recent = [message("a"), message("b")], [message("c")]
    assert await warming.run() == ""
    for server in (one, two):
        assert [request.id for request in server.asked] == ["a", "b", "a"]
        assert {request.model_name for request in server.asked} == {"new"}
        assert {(headers["mm-model-id"], headers["mm-model-id-bin"]) for headers in server.headers} == {("new", b"new")}


async def test_without_samples_requests_of_users_do(warming, pods):
    server = await pods("pod-1")
    warming.recent = [message("c")]
    assert await warming.run(requests=2) == ""
    assert [request.id for request in server.asked] == ["c", "c"]


async def test_samples_that_cannot_be_read_are_done_without(warming, pods):
    server = await pods("pod-1")
    warming.unreadable = OSError("the bucket is away")
    warming.recent = [message("c")]
    assert await warming.run(requests=1) == ""
    assert len(server.asked) == 1


async def test_with_nothing_else_requests_are_made_from_metadata(warming, pods):
    server = await pods("pod-1")
    server.metadata.inputs.add(name="x", datatype="FP32", shape=[-1, 3])
    server.metadata.inputs.add(name="text", datatype="BYTES", shape=[2])
    assert await warming.run(requests=2) == ""
    assert len(server.asked) == 2
    request = server.asked[0]
    assert [(tensor.name, list(tensor.shape)) for tensor in request.inputs] == [("x", [1, 3]), ("text", [2])]
    assert list(request.raw_input_contents) == [bytes(12), bytes(8)]


async def test_a_model_nobody_can_ask_is_not_warmed_up(warming, pods):
    server = await pods("pod-1")
    assert await warming.run() == ""
    assert server.asked == []


async def test_nothing_to_do_is_done_at_once(warming, pods):
    await pods("pod-1")
    assert await warming.run(pods=()) == ""
    assert await warming.run(requests=0) == ""
    assert await warming.run(pods=("gone",)) == ""


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INVALID_ARGUMENT])
async def test_a_copy_that_fails_on_real_requests_fails_the_warm_up(warming, pods, code):
    await pods("pod-1")
    bad = await pods("pod-2")
    bad.answer = refuse(code, "no such feature")
    warming.packaged = [message("a")]
    failure = await warming.run()
    assert failure == f"pod pod-2 answered a warm-up request (the package's samples) with {code.name}: no such feature"


async def test_made_up_requests_may_be_refused_but_not_break_the_model(warming, pods):
    server = await pods("pod-1")
    server.metadata.inputs.add(name="x", datatype="FP32", shape=[1])
    server.answer = refuse(grpc.StatusCode.INVALID_ARGUMENT, "zeros are no image")
    assert await warming.run() == ""
    server.answer = refuse(grpc.StatusCode.INTERNAL, "division by zero")
    failure = await warming.run()
    assert "INTERNAL: division by zero" in failure
    assert "publish the model with samples" in failure


async def test_servers_of_other_protocols_are_not_warmed_up(warming, pods):
    server = await pods("pod-1")
    server.answer = refuse(grpc.StatusCode.UNIMPLEMENTED, "")
    warming.packaged = [message("a")]
    assert await warming.run() == ""


async def test_an_evicted_copy_is_waited_for(warming, pods):
    server = await pods("pod-1")
    server.loaded = False
    warming.packaged = [message("a")]
    warming.start(requests=2)
    await until(lambda: len(server.asked) >= 2, "another try")
    assert warming.events == []
    server.loaded = True
    await until(lambda: warming.events, "the end of the warm-up")
    assert warming.events[0].failure == ""


async def test_time_runs_out_with_the_reason(warming, pods):
    server = await pods("pod-1")
    server.loaded = False
    warming.packaged = [message("a")]
    failure = await warming.run(timeout=0.5)
    assert failure.startswith("not every copy answered 3 warm-up requests within 0.5s: pod pod-1 answers NOT_FOUND")
    server.loaded = True
    server.gate.clear()
    failure = await warming.run(timeout=0.2)
    assert failure.endswith("requests took too long")


async def test_a_copy_whose_pod_leaves_needs_no_warm_up(warming, pods):
    server, other = await pods("pod-1"), await pods("pod-2")
    server.loaded = False
    warming.packaged = [message("a")]
    warming.start(requests=2)
    await until(lambda: server.asked and len(other.asked) == 2, "the first try")
    del pods.links["pod-1"]
    await until(lambda: warming.events, "the end of the warm-up")
    assert warming.events[0].failure == ""


async def test_a_connection_that_is_closed_meanwhile_is_as_a_pod_that_leaves(warming, pods):
    server, other = await pods("pod-1"), await pods("pod-2")
    server.gate.clear()
    warming.packaged = [message("a")]
    warming.start(requests=2)
    await until(lambda: server.asked and len(other.asked) == 2, "the first try")
    link = pods.links.pop("pod-1")
    await link.inference.close()
    await until(lambda: warming.events, "the end of the warm-up")
    assert warming.events[0].failure == ""


async def test_starting_again_replaces_a_warm_up(warming, pods):
    server = await pods("pod-1")
    server.gate.clear()
    warming.packaged = [message("a")]
    warming.start()
    await until(lambda: server.asked, "the first request")
    server.gate.set()
    warming.start(requests=5)
    await until(lambda: warming.events, "the end of the warm-up")
    assert len(warming.events) == 1
    assert len(server.asked) == 1 + 5


async def test_a_copy_is_not_unloaded_while_it_is_warmed_up(warming, pods):
    server = await pods("pod-1")
    server.gate.clear()
    warming.packaged = [message("a")]
    warming.start(requests=1)
    await until(lambda: server.asked, "the request")
    idle = asyncio.create_task(warming.in_flight.idle("pod-1", "new"))
    await asyncio.sleep(0)
    assert not idle.done()
    server.gate.set()
    await asyncio.wait_for(idle, 5)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ([], "does not say what the inputs are"),
        ([("x", "FP7", [1])], "unknown datatype, 'FP7'"),
        ([("x", "FP64", [1 << 20, 1 << 20])], "larger than"),
    ],
)
def test_metadata_that_tells_too_little(tensors, problem):
    metadata = oip.ModelMetadataResponse()
    for name, datatype, shape in tensors:
        metadata.inputs.add(name=name, datatype=datatype, shape=shape)
    with pytest.raises(CannotMakeError, match=problem):
        made_up(metadata)
