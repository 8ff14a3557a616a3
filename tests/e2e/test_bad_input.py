"""Wrong manifests, bodies, headers and frames: a clear error, nothing changed, nothing crashed, nothing hung."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e_models import PIXELS, seed_form, v2_form
from shoal_protos import inference as oip
from support.e2e import Cluster, service
from waiting import eventually

pytestmark = pytest.mark.server
GENERIC_PATH = "/inference.GRPCInferenceService/ModelInfer"
FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module", autouse=True)
def nothing_crashes(cluster: Cluster, digits: str) -> Iterator[None]:
    """After all of this the same processes run, and they serve."""
    before = {name: cluster.part(name) for name in ("apiserver", "mesh", "gateway")}, cluster.containers()
    yield
    after = {name: cluster.part(name) for name in ("apiserver", "mesh", "gateway")}, cluster.containers()
    assert after == before
    answer = httpx.post(f"{cluster.rest}/v2/models/{digits}/infer", content=seed_form(PIXELS), timeout=30)
    assert answer.json()["outputs"][0]["contents"] == {"int64Contents": ["8"]}


# --- manifests ---


def changed(change) -> dict:
    document = yaml.safe_load(service("wrong", "mnist-svm.joblib"))
    change(document, document["spec"]["predictor"]["model"])
    return document


def runtime(change) -> dict:
    container = {"name": "mlserver", "image": "mlserver"}
    document = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "wrong", "namespace": "modelmesh-serving"},
        "spec": {
            "supportedModelFormats": [{"name": "x", "version": "1", "autoSelect": True}],
            "multiModel": True,
            "grpcEndpoint": "port:8085",
            "grpcDataEndpoint": "port:8001",
            "containers": [container],
            "builtInAdapter": {"serverType": "mlserver", "runtimeManagementPort": 8001},
        },
    }
    change(document["spec"], container)
    return document


WRONG_MANIFESTS = {
    "misspelt field": (changed(lambda d, m: m.update(modelFromat=m.pop("modelFormat"))), "modelFromat"),
    "unknown field": (changed(lambda d, m: m.update(colour="red")), "colour"),
    "wrong type": (changed(lambda d, m: m.update(modelFormat=["sklearn"])), "modelFormat"),
    "number for text": (changed(lambda d, m: m["storage"].update(path=5)), "path"),
    "negative replicas": (changed(lambda d, m: d["spec"]["predictor"].update(minReplicas=-1)), "minReplicas"),
    "bad name": (changed(lambda d, m: d["metadata"].update(name="Not_A_Name")), "metadata.name"),
    "port as a number": (runtime(lambda s, c: s.update(grpcEndpoint=8085)), "write it like port:8085"),
    "bad port": (runtime(lambda s, c: s.update(grpcDataEndpoint="port:99999")), "grpcDataEndpoint"),
    "no containers": (runtime(lambda s, c: s.update(containers=[])), "containers"),
    "misspelt adapter": (runtime(lambda s, c: s["builtInAdapter"].update(servrType="x")), "servrType"),
}


def every_object(cluster: Cluster) -> list:
    return [cluster.object(kind)["items"] for kind in ("isvc", "servingruntimes")]


def specs(cluster: Cluster) -> list:
    return [(item["metadata"]["name"], item["spec"]) for items in every_object(cluster) for item in items]


@pytest.mark.parametrize("how", ["kubectl", "shoal"])
@pytest.mark.parametrize("case", WRONG_MANIFESTS)
def test_a_wrong_manifest_names_its_field_and_changes_nothing(cluster: Cluster, how: str, case: str):
    document, field = WRONG_MANIFESTS[case]
    before = specs(cluster)
    text = yaml.safe_dump(document)
    if how == "kubectl":
        done = cluster.run("kubectl", "apply", "-f", "-", stdin=text)
    else:
        done = cluster.shoal("apply", "-f", "-", stdin=text)
    assert done.code == 1, done.out
    assert field in done.err
    assert "Traceback" not in done.err
    assert specs(cluster) == before


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [1", "line"),
        ("- 1\n- 2\n", "mapping"),
        ("apiVersion: nobody/v1\nkind: Nothing\nmetadata: {name: x}\n", "Nothing"),
        ("kind: InferenceService\nmetadata: {name: x}\n", "apiVersion"),
        ("", "no "),
        ("\x00", ""),
    ],
)
def test_what_is_no_manifest_is_said_to_be_none(cluster: Cluster, text: str, word: str):
    done = cluster.shoal("apply", "-f", "-", stdin=text)
    assert done.code != 0
    assert word in done.err
    assert "Traceback" not in done.err
    assert cluster.run("kubectl", "apply", "-f", "-", stdin=text).code != 0


def test_a_model_that_is_not_there_is_told_in_status_and_to_its_clients(cluster: Cluster, digits: str):
    cluster.must("apply", "-f", "-", stdin=service("absent", "no-such-file.joblib", claim="digits"))
    try:
        waited = cluster.shoal("wait", "isvc", "absent", "--for", "Ready", "--timeout", "4s")
        assert waited.code == 3
        answer = post(cluster, "absent", seed_form(PIXELS).encode())
        assert "no-such-file.joblib" in answer.json()["error"]
        assert "no-such-file.joblib" in json.dumps(cluster.status("absent")["modelStatus"])
    finally:
        cluster.must("delete", "isvc", "absent")


def test_a_load_by_name_tries_again_what_failed(cluster: Cluster, svm: Path, tmp_path: Path):
    """The failure is remembered for minutes, but who mends the file and asks for the model need not wait."""
    (tmp_path / svm.name).write_bytes(b"not a model")
    cluster.must("pvc", "create", "mended", "--from", str(tmp_path))
    cluster.must("apply", "-f", "-", stdin=service("mended", svm.name, claim="mended"))
    load = f"{cluster.rest}/v2/repository/models/mended/load"
    try:
        assert post(cluster, "mended", seed_form(PIXELS).encode()).status_code == 500
        # The answer comes from the mesh, the status a moment later from the controller.
        failure = eventually(lambda: cluster.status("mended")["modelStatus"].get("lastFailureInfo"))
        told = failure["message"]
        assert re.search(rf"'{svm.name}' does not load: \w+Error: .*; it is no file of joblib or pickle", told), told
        assert httpx.post(load, timeout=30).status_code == 500
        cluster.must("pvc", "create", "mended", "--from", str(svm), "--replace")
        assert post(cluster, "mended", seed_form(PIXELS).encode()).status_code == 500
        answer = httpx.post(load, timeout=30)
        assert answer.status_code == 200, answer.text
        answer = post(cluster, "mended", seed_form(PIXELS).encode())
        assert answer.json()["outputs"][0]["contents"] == {"int64Contents": ["8"]}
    finally:
        cluster.must("delete", "isvc", "mended")


def test_a_file_that_is_overwritten_is_not_served_under_its_old_path(cluster: Cluster, svm: Path, tmp_path: Path):
    """A revision is its spec: nobody loads it anew because of its files."""
    (tmp_path / svm.name).write_bytes(b"not a model")
    cluster.must("pvc", "create", "overwritten", "--from", str(svm))
    cluster.must("apply", "-f", "-", stdin=service("overwritten", svm.name, claim="overwritten"))
    try:
        before = post(cluster, "overwritten", seed_form(PIXELS).encode())
        assert before.status_code == 200, before.text
        cluster.must("pvc", "create", "overwritten", "--from", str(tmp_path), "--replace")
        cluster.must("apply", "-f", "-", stdin=service("overwritten", svm.name, claim="overwritten"))
        assert post(cluster, "overwritten", seed_form(PIXELS).encode()).json() == before.json()
    finally:
        cluster.must("delete", "isvc", "overwritten")


# --- REST ---


def post(cluster: Cluster, name: str, body: bytes, **headers: str) -> httpx.Response:
    url = f"{cluster.rest}/v2/models/{name}/infer"
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx.post(url, content=body, headers=headers, timeout=30)


def tensor(**changes) -> bytes:
    document = {"name": "predict", "shape": [1, 64], "datatype": "FP32", "data": PIXELS.ravel().tolist()} | changes
    return json.dumps({"inputs": [{key: value for key, value in document.items() if value is not None}]}).encode()


BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "text": b"hello",
    "no object": b"[1, 2]",
    "null": b"null",
    "no inputs": b"{}",
    "empty inputs": b'{"inputs": []}',
    "inputs no list": b'{"inputs": 5}',
    "input no object": b'{"inputs": [5]}',
    "neither form": tensor(data=None),
    "both forms": tensor(contents={"fp32_contents": [1.0]}),
    "too few values": tensor(data=[1.0]),
    "too many values": tensor(data=[1.0] * 65),
    "wrong kind of values": tensor(data=["a"] * 64),
    "wrong contents": tensor(data=None, contents={"int64_contents": [1] * 64}),
    "unknown contents": tensor(data=None, contents={"fp99_contents": [1.0] * 64}),
    "too few contents": tensor(data=None, contents={"fp32_contents": [1.0]}),
    "shape is text": tensor(shape="1,64"),
    "enormous shape": tensor(shape=[2**62, 64]),
    "unknown datatype": tensor(datatype="FP99"),
    "no datatype": tensor(datatype=None),
    "no UTF-8": b'{"inputs": "\xff\xfe"}',
    "deep": b"[" * 100_000,
    "deep object": b'{"inputs": ' * 5_000 + b"1" + b"}" * 5_000,
    "trailing": tensor() + b"x",
    "binary": bytes(range(256)) * 10,
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_bad_body_is_refused_with_the_reason(cluster: Cluster, digits: str, case: str):
    answer = post(cluster, digits, BAD_BODIES[case], content_type="application/json")
    assert answer.status_code == 400, answer.text
    assert len(answer.json()["error"]) > 10, answer.text


BINARY = json.dumps(
    {"inputs": [{"name": "p", "shape": [1, 64], "datatype": "FP32", "parameters": {"binary_data_size": 256}}]}
).encode()
LENGTH = "inference_header_content_length"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BINARY + bytes(256), {LENGTH: "99999"}),
        (BINARY + bytes(256), {LENGTH: "-1"}),
        (BINARY + bytes(256), {LENGTH: "abc"}),
        (BINARY + bytes(256), {LENGTH: "5"}),
        (BINARY + bytes(255), {LENGTH: str(len(BINARY))}),
        (BINARY + bytes(300), {LENGTH: str(len(BINARY))}),
        (BINARY, {LENGTH: str(len(BINARY))}),
        (tensor(), {"content_encoding": "gzip"}),
        (gzip.compress(tensor())[:-9], {"content_encoding": "gzip"}),
        (tensor(), {"content_encoding": "no-such-code"}),
    ],
)
def test_bad_binary_bodies_and_encodings(cluster: Cluster, digits: str, body: bytes, headers: dict[str, str]):
    answer = post(cluster, digits, body, **headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/", 404),
        ("POST", "/v2/models/digits/explain", 404),
        ("GET", "/v2/models/digits/infer", 405),
        ("DELETE", "/v2/models/digits/infer", 405),
        ("PUT", "/v2/models/digits/infer", 405),
        ("POST", "/v2/models//infer", 404),
        ("POST", "/v2/models/%2e%2e/infer", 404),
        ("POST", "/v2/models/" + "x" * 5000 + "/infer", 404),
        ("GET", "/v2/models/%00", 404),
    ],
)
def test_unknown_models_routes_and_methods(cluster: Cluster, digits: str, method: str, path: str, status: int):
    content = seed_form(PIXELS) if method == "POST" else None
    answer = httpx.request(method, cluster.rest + path, content=content, timeout=30)
    assert answer.status_code == status or (status == 404 and 400 <= answer.status_code < 500), answer.text
    if answer.status_code == 405:
        assert answer.headers.get("allow") or answer.json()["error"]


def test_a_name_of_any_script_is_told_as_it_is(cluster: Cluster, digits: str):
    answer = post(cluster, "\u00e9", v2_form(PIXELS).encode())
    assert (answer.status_code, answer.json()) == (404, {"error": "model not found: \u00e9"})


def contents(**changes) -> bytes:
    return tensor(**({"data": None, "contents": {"fp32_contents": PIXELS.ravel().tolist()}} | changes))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (contents(shape=[-1, 64]), "input 'predict': shape: -1 is no size"),
        (contents(shape=[True, 64]), "shape"),
        (contents(datatype="INT64", contents={"int64_contents": [1.5] * 64}), "int64_contents"),
        (
            contents(datatype="INT8", contents={"int_contents": [300] * 64}),
            "300 is out of range, INT8 takes -128 to 127",
        ),
        (contents(datatype="BOOL", contents={"bool_contents": [1] * 64}), "bool_contents"),
        (contents(contents={"fp32_contents": ["NaN"] * 64}), "contains NaN"),
        (tensor(datatype="INT64", data=[0.5] * 64), "inputs[0].data: value 0 is 0.5, but INT64 takes whole numbers"),
        (tensor(data=[None] * 64), "contains NaN"),
    ],
)
def test_values_of_the_wrong_type_are_refused_in_both_forms_of_json(cluster: Cluster, digits: str, body, words):
    answer = post(cluster, digits, body)
    assert answer.status_code == 400
    assert words in answer.json()["error"], answer.text


def test_what_the_model_server_does_not_find_is_told_in_its_words(cluster: Cluster, digits: str):
    path = f"/v2/models/{digits}/versions/7/infer"
    answer = httpx.post(cluster.rest + path, content=v2_form(PIXELS), timeout=30)
    assert answer.status_code == 404
    assert answer.json()["error"].endswith("with version 7 not found")


def test_headers_that_are_too_large(cluster: Cluster, digits: str):
    answer = post(cluster, digits, tensor(), x_huge="x" * 200_000)
    assert 400 <= answer.status_code < 500


def test_a_body_that_is_too_large(cluster: Cluster, digits: str):
    answer = post(cluster, digits, b'{"inputs": [' + b" " * (20 << 20) + b"]}")
    assert answer.status_code in (400, 413), answer.text


# --- gRPC ---


def good_message(name: str) -> bytes:
    request = oip.ModelInferRequest(model_name=name)
    request.inputs.add(name="predict", datatype="FP32", shape=[1, 64])
    request.raw_input_contents.append(PIXELS.tobytes())
    return request.SerializeToString()


def refused(cluster: Cluster, path: str, message: bytes, **metadata: str) -> grpc.RpcError:
    options = [("grpc.max_send_message_length", -1)]
    headers = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    with grpc.insecure_channel(cluster.grpc, options=options) as channel:
        call = channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as error:
            call(message, metadata=headers, timeout=30)
        return error.value


def wrong(name: str, **changes) -> bytes:
    request = oip.ModelInferRequest.FromString(good_message(name))
    for key, value in changes.items():
        if key == "raw":
            del request.raw_input_contents[:]
            request.raw_input_contents.extend(value)
        elif key == "shape":
            request.inputs[0].shape[:] = value
        else:
            setattr(request.inputs[0], key, value)
    return request.SerializeToString()


INVALID = {"INVALID_ARGUMENT"}
BAD_MESSAGES = {
    "cut": (good_message("digits")[:-20], INVALID),
    "wrong length": (b"\x0a\xff\xff\xff\xff\x7fdigits", INVALID),
    "endless varint": (b"\xff" * 40, INVALID),
    "random": (bytes(range(256)), INVALID),
    "empty": (b"", INVALID | {"NOT_FOUND"}),
    "no inputs": (b"\x0a\x06digits", INVALID),
    "unknown model": (good_message("nobody"), {"NOT_FOUND"}),
    "name no UTF-8": (b"\x0a\x03\xff\xfe\xfd", INVALID | {"NOT_FOUND"}),
    "name of a megabyte": (good_message("x" * 1_000_000), INVALID | {"NOT_FOUND", "RESOURCE_EXHAUSTED"}),
    "broken tensor": (good_message("digits").replace(b"FP32", b"FP\xff2"), INVALID),
    "cut data": (wrong("digits", raw=[PIXELS.tobytes()[:-1]]), INVALID),
    "no data": (wrong("digits", raw=[]), INVALID),
    "too many tensors": (wrong("digits", raw=[PIXELS.tobytes()] * 2), INVALID),
    "negative shape": (wrong("digits", shape=[-1, 64]), INVALID),
    "enormous shape": (wrong("digits", shape=[2**40, 2**40]), INVALID),
    "unknown datatype": (wrong("digits", datatype="FP99"), INVALID),
}


@pytest.mark.parametrize("case", BAD_MESSAGES)
def test_a_bad_message_is_refused_with_the_reason(cluster: Cluster, digits: str, case: str):
    message, codes = BAD_MESSAGES[case]
    error = refused(cluster, GENERIC_PATH, message)
    assert error.code().name in codes, error.details()
    assert error.details()


def test_a_message_that_is_too_large(cluster: Cluster, digits: str):
    error = refused(cluster, GENERIC_PATH, wrong(digits, raw=[bytes(20 << 20)]))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error.details()


def test_unknown_services_methods_and_models_by_header(cluster: Cluster, digits: str):
    assert refused(cluster, "/no.Such/Method", b"").code().name in ("UNIMPLEMENTED", "INVALID_ARGUMENT")
    method = "/inference.GRPCInferenceService/Nothing"
    assert refused(cluster, method, good_message(digits)).code().name in ("UNIMPLEMENTED", "INVALID_ARGUMENT")
    error = refused(cluster, GENERIC_PATH, good_message(digits), mm_vmodel_id="nobody")
    assert error.code() is grpc.StatusCode.NOT_FOUND


def frame(message: bytes, flag: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", flag, len(message) if length is None else length) + message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00",
        frame(good_message("digits"), length=5),
        frame(good_message("digits"), length=100_000),
        frame(good_message("digits"), length=2**32 - 1),
        frame(good_message("digits"), flag=1),
        frame(good_message("digits"), flag=255),
        frame(good_message("digits")) * 2,
        frame(good_message("digits")) + b"\x00\x00",
        b"x" * 1000,
    ],
)
def test_bad_frames(cluster: Cluster, digits: str, body: bytes, tmp_path):
    """gRPC's five bytes before each message, by a client that does not know them."""
    file = tmp_path / "frame"
    file.write_bytes(body)
    url = f"http://{cluster.grpc}{GENERIC_PATH}"
    command = ["curl", "-sS", "-i", "--max-time", "30", "--http2-prior-knowledge", url, "--data-binary", f"@{file}"]
    done = cluster.run(*command, "-H", "content-type: application/grpc", "-H", "te: trailers")
    assert done.code == 0, done.err
    status = next((line for line in done.out.lower().splitlines() if line.startswith("grpc-status:")), "")
    assert status not in ("", "grpc-status: 0", "grpc-status: 2", "grpc-status: 13", "grpc-status: 14"), done.out


# --- sockets ---


def talk(address: tuple[str, int], *parts: bytes) -> bytes:
    """What comes back for raw bytes, until the other side has no more to say or two seconds pass."""
    with socket.create_connection(address, 5) as connection:
        connection.settimeout(2)
        found = b""
        with contextlib.suppress(OSError):
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(65536):
                found += chunk
                if found.startswith(b"HTTP/1.1 2") and b"\r\n\r\n" in found:
                    break
    return found


def test_http_1_0(cluster: Cluster, digits: str):
    body = seed_form(PIXELS).encode()
    head = f"POST /v2/models/{digits}/infer HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = talk(("127.0.0.1", cluster.rest_port), head + body)
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200", b"HTTP/1.1 426", b"HTTP/1.1 4")), answer


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"\xff" * 5000,
        b"GET",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        + b"\x00\x00\x05\x01\x04\x00\x00\x00\x01abcde",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300,
    ],
)
def test_garbage_on_the_socket(cluster: Cluster, port: str, data: bytes):
    answer = talk(("127.0.0.1", getattr(cluster, port)), data)
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert not answer.startswith(b"HTTP/1.1 200"), answer


# --- anything ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TENSOR = st.dictionaries(
    st.sampled_from(["name", "shape", "datatype", "data", "contents", "parameters", "x"]),
    JSON
    | st.just("FP32")
    | st.just([1, 64])
    | st.just(PIXELS.ravel().tolist())
    | st.just({"fp32_contents": PIXELS.ravel().tolist()}),
    max_size=6,
)
DOCUMENT = st.fixed_dictionaries({}, optional={"inputs": st.lists(TENSOR | JSON, max_size=3) | JSON, "id": JSON})


@FUZZ
@given(document=DOCUMENT | JSON)
def test_any_json(cluster: Cluster, digits: str, document):
    answer = post(cluster, digits, json.dumps(document).encode(), content_type="application/json")
    assert answer.status_code < 500, (document, answer.text)
    if answer.status_code != 200:
        assert answer.json()["error"]


@FUZZ
@given(data=st.data())
def test_any_bytes_in_a_message(cluster: Cluster, digits: str, data):
    message = bytearray(good_message(digits))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    with grpc.insecure_channel(cluster.grpc) as channel:
        call = channel.unary_unary(GENERIC_PATH).future(bytes(message[:cut]), timeout=30)
        assert call.code().name in ("OK", "INVALID_ARGUMENT", "NOT_FOUND"), (call.code(), call.details(), message)
        assert call.code() is not grpc.StatusCode.OK or b"digits__isvc-" in call.result()


def test_the_good_ones_still_work(cluster: Cluster, digits: str):
    for form in (seed_form, v2_form):
        assert post(cluster, digits, form(PIXELS).encode()).status_code == 200
