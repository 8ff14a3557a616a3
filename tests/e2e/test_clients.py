"""Clients people have, unchanged: each in a process of its own, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from e2e_models import PIXELS, seed_form, v2_form
from support.e2e import DATA, Cluster

pytestmark = pytest.mark.server
INPUT = "import json, sys, asyncio, numpy\npixels = numpy.array(json.loads(sys.argv[2]), numpy.float32)\n"

TRITON_GRPC = """
import threading, tritonclient.grpc as triton, tritonclient.utils as triton_errors
def tensor():
    found = triton.InferInput("predict", [1, 64], "FP32")
    found.set_data_from_numpy(pixels)
    return [found]
with triton.InferenceServerClient(sys.argv[1]) as client:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("digits")
    assert not client.is_model_ready("nobody") and not client.is_model_ready("digits", "7")
    for ask in (client.get_model_config, client.get_inference_statistics):
        try:
            ask("digits", client_timeout=5)
        except triton_errors.InferenceServerException as error:
            assert error.status() == "StatusCode.UNIMPLEMENTED", error
        else:
            raise AssertionError("only Triton has that")
    metadata = client.get_model_metadata("digits")
    assert metadata.inputs is not None
    assert client.get_server_metadata().name
    answers = [client.infer("digits", tensor(), compression_algorithm=how) for how in (None, "gzip", "deflate")]
    wanted = triton.InferRequestedOutput("predict")
    answers.append(client.infer("digits", tensor(), outputs=[wanted], request_id="seven", client_timeout=30))
    assert answers[-1].get_response().id == "seven"
    done = threading.Event()
    def told(result, error):
        answers.append(error or result)
        done.set()
    client.async_infer("digits", tensor(), callback=told)
    assert done.wait(30)
    print(json.dumps([answer.as_numpy("predict").tolist() for answer in answers]))
"""
TRITON_GRPC_AIO = """
import tritonclient.grpc.aio as triton
async def main():
    async with triton.InferenceServerClient(sys.argv[1]) as client:
        found = triton.InferInput("predict", [1, 64], "FP32")
        found.set_data_from_numpy(pixels)
        answers = await asyncio.gather(*(client.infer("digits", [found]) for _ in range(5)))
        print(json.dumps([answer.as_numpy("predict").tolist() for answer in answers]))
asyncio.run(main())
"""
TRITON_HTTP = """
import tritonclient.http as triton
with triton.InferenceServerClient(sys.argv[1], concurrency=4) as client:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("digits")
    assert not client.is_model_ready("nobody") and not client.is_model_ready("digits", "7")
    assert client.get_model_metadata("digits")["name"]
    assert client.get_server_metadata()["name"]
    client.get_model_repository_index()
    answers = []
    for sent in (True, False):
        for returned in (True, False):
            for packed in (None, "gzip"):
                found = triton.InferInput("predict", [1, 64], "FP32")
                found.set_data_from_numpy(pixels, binary_data=sent)
                wanted = triton.InferRequestedOutput("predict", binary_data=returned)
                answers.append(client.infer("digits", [found], outputs=[wanted], request_compression_algorithm=packed))
    answers.extend(request.get_result() for request in [client.async_infer("digits", [found]) for _ in range(4)])
    print(json.dumps([answer.as_numpy("predict").tolist() for answer in answers]))
"""
TRITON_HTTP_AIO = """
import tritonclient.http.aio as triton
async def main():
    async with triton.InferenceServerClient(sys.argv[1]) as client:
        answers = []
        for sent in (True, False):
            found = triton.InferInput("predict", [1, 64], "FP32")
            found.set_data_from_numpy(pixels, binary_data=sent)
            answers.append(await client.infer("digits", [found]))
        print(json.dumps([answer.as_numpy("predict").tolist() for answer in answers]))
asyncio.run(main())
"""
MLSERVER_GRPC = """
import grpc
from mlserver.codecs import NumpyCodec
from mlserver.grpc import converters, dataplane_pb2 as pb, dataplane_pb2_grpc
from mlserver.types import InferenceRequest
async def main():
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="digits"))).ready
        await stub.ModelMetadata(pb.ModelMetadataRequest(name="digits"))
        answers = []
        for raw in (True, False):
            request = InferenceRequest(inputs=[NumpyCodec.encode_input("predict", pixels)])
            message = converters.ModelInferRequestConverter.from_types(request, model_name="digits", use_raw=raw)
            answer = converters.ModelInferResponseConverter.to_types(await stub.ModelInfer(message))
            answers.append(NumpyCodec.decode_output(answer.outputs[0]).tolist())
        print(json.dumps(answers))
asyncio.run(main())
"""
MLSERVER_STREAM = """
import grpc
from mlserver.grpc import converters, dataplane_pb2_grpc
from mlserver.types import InferenceRequest, RequestInput
async def main():
    request = InferenceRequest(inputs=[RequestInput(name="to", datatype="INT64", shape=[1], data=[3])])
    message = converters.ModelInferRequestConverter.from_types(request, model_name="counter")
    async def requests():
        yield message
        yield message
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(channel)
        found = [answer async for answer in stub.ModelStreamInfer(requests(), timeout=30)]
        answers = [converters.ModelInferResponseConverter.to_types(answer) for answer in found]
        assert {answer.model_name.split("__")[0] for answer in answers} == {"counter"}
        print(json.dumps([answer.outputs[0].data[0] for answer in answers]))
asyncio.run(main())
"""
MLSERVER_REST = """
import httpx
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse, RepositoryIndexResponse
base = f"http://{sys.argv[1]}/v2"
request = InferenceRequest(inputs=[NumpyCodec.encode_input("predict", pixels)])
with httpx.Client(trust_env=False) as client:
    answer = client.post(f"{base}/models/digits/infer", content=request.model_dump_json(exclude_none=True))
    parsed = InferenceResponse.model_validate_json(answer.text)
    MetadataModelResponse.model_validate_json(client.get(f"{base}/models/digits").text)
    RepositoryIndexResponse.model_validate_json(client.post(f"{base}/repository/index", json={}).text)
    print(json.dumps([NumpyCodec.decode_output(parsed.outputs[0]).tolist()]))
"""


def run(script: str, target: str) -> list:
    done = subprocess.run(
        [sys.executable, "-c", INPUT + script, target, json.dumps(PIXELS.tolist())],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "script", [TRITON_GRPC, TRITON_GRPC_AIO, MLSERVER_GRPC], ids=["tritonclient", "tritonclient-aio", "mlserver"]
)
def test_over_grpc(cluster: Cluster, digits: str, script: str):
    answers = run(script, cluster.grpc)
    assert answers == [[[8]]] * len(answers)
    assert len(answers) >= 2


@pytest.mark.parametrize(
    ("script", "count"),
    [(TRITON_HTTP, 12), (TRITON_HTTP_AIO, 2), (MLSERVER_REST, 1)],
    ids=["tritonclient", "tritonclient-aio", "mlserver"],
)
def test_over_rest(cluster: Cluster, digits: str, script: str, count: int):
    assert run(script, cluster.rest.removeprefix("http://")) == [[[8]]] * count


def test_health_and_reflection_at_the_gateway(cluster: Cluster):
    """As a load balancer asks, and a client without protocol files."""
    request = health_pb2.HealthCheckRequest()
    with grpc.insecure_channel(cluster.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(request, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(request, timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        for version in ("v1", "v1alpha"):
            ask = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString,
            )
            answer = next(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10))
            services = [service.name for service in answer.list_services_response.service]
            assert "inference.GRPCInferenceService" in services


def status_of(cluster: Cluster, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    data = body.encode() if body else None
    request = urllib.request.Request(cluster.rest + path, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_version_means_the_same_on_every_route(cluster: Cluster, digits: str):
    """It is the model server's to know: on the route of a loaded model as by the activator, before and after a load."""
    versioned = f"/v2/models/{digits}/versions/7"
    routes = [
        ("GET", "", None),
        ("GET", "/ready", None),
        ("POST", "/infer", v2_form(PIXELS)),
        ("POST", "/infer", seed_form(PIXELS)),
        ("POST", "/generate", v2_form(PIXELS)),
    ]
    for state in ("hot", "cold"):
        if state == "cold":
            assert status_of(cluster, "POST", f"/v2/repository/models/{digits}/unload", "{}")[0] == 200
        for closing in ("", "/"):
            for method, what, body in routes:
                status, text = status_of(cluster, method, versioned + what + closing, body)
                assert (status, "with version 7 not found" in text) == (404, True), (state, method, what, text)
                assert status_of(cluster, method, f"/v2/models/{digits}{what}{closing}", body)[0] == 200


@pytest.mark.parametrize("verb", ["infer", "generate", "infer_stream", "generate_stream"])
def test_what_a_loaded_model_answers_it_answers_unloaded_too(cluster: Cluster, digits: str, verb: str):
    path, answers = f"/v2/models/{digits}/{verb}", []
    for _ in range(2):
        assert status_of(cluster, "POST", f"/v2/repository/models/{digits}/unload", "{}")[0] == 200
        answers.append(status_of(cluster, "POST", path, v2_form(PIXELS)))
        answers.append(status_of(cluster, "POST", path, v2_form(PIXELS)))
    assert {status for status, _ in answers} == {200}
    assert all('"data":[8]' in text.replace(" ", "") for _, text in answers)


def test_a_body_may_repeat_the_models_name(cluster: Cluster, digits: str):
    """As kserve's REST client always does."""
    body = json.loads(v2_form(PIXELS))
    for _ in range(2):
        assert status_of(cluster, "POST", f"/v2/repository/models/{digits}/unload", "{}")[0] == 200
        for _ in range(2):
            named = json.dumps(body | {"model_name": digits})
            assert status_of(cluster, "POST", f"/v2/models/{digits}/infer", named)[0] == 200
            named = json.dumps(body | {"model_name": "other"})
            status, text = status_of(cluster, "POST", f"/v2/models/{digits}/infer", named)
            assert (status, "model_name is other but the path names digits" in text) == (400, True)


def test_mlservers_streaming_method_with_a_class_that_travels_with_its_model(cluster: Cluster):
    cluster.must("pvc", "create", "streaming", "--from", str(DATA / "streaming"))
    cluster.deploy("counter", ".", claim="streaming")
    assert run(MLSERVER_STREAM, cluster.grpc) == [1, 2, 3, 1, 2, 3]


def test_mlservers_own_command(cluster: Cluster, digits: str, tmp_path: Path):
    (tmp_path / "in").write_text(v2_form(PIXELS) + "\n")
    target = cluster.rest.removeprefix("http://")
    command = [str(Path(sys.executable).with_name("mlserver")), "infer", "-u", target, "-m", digits]
    command += ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert json.loads((tmp_path / "out").read_text())["outputs"][0]["data"] == [8]


def test_a_client_without_generated_code(cluster: Cluster, digits: str):
    """Any gRPC client: bytes in, bytes out, the model named by the message alone or by a header alone."""
    pixels = PIXELS.tobytes()
    tensor = b"\x0a\x07predict" + b"\x12\x04FP32" + b"\x1a\x02\x01\x40"
    body = b"\x2a" + bytes([len(tensor)]) + tensor + b"\x3a" + b"\x80\x02" + pixels
    named = b"\x0a\x06digits" + body
    with grpc.insecure_channel(cluster.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        revision = cluster.status(digits)["modelRevisionName"]
        by_endpoint, by_revision = (("mm-vmodel-id", digits),), (("mm-model-id", revision),)
        for message, metadata in ((named, ()), (body, by_endpoint), (body, by_revision)):
            answer = call(message, metadata=metadata, timeout=30)
            assert b"digits__isvc-" in answer
            assert answer.endswith((8).to_bytes(8, "little")) or b"\x2a\x03\x1a\x01\x08" in answer


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parametrize(
    ("form", "field"), [(seed_form, '"int64Contents":["8"]'), (v2_form, '"data":[8]')], ids=["protobuf", "v2"]
)
def test_curl(cluster: Cluster, digits: str, version: str, form, field: str):
    url = f"{cluster.rest}/v2/models/{digits}/infer"
    done = cluster.run("curl", "-sS", "--fail-with-body", version, url, "-d", form(PIXELS))
    assert done.code == 0, done.err + done.out
    assert field in done.out.replace(" ", "").replace("[[8]]", "[8]")
