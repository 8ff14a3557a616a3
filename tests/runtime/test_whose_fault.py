"""Whose fault an error is: models at fault answer 500, requests that do not fit 400, a model's own status as it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import joblib
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from shoal_protos import inference
from support.runtime import HOST, Pod, model_key, refused

pytestmark = pytest.mark.server

CUSTOM = '''
from mlserver import MLModel
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse


class Raising(MLModel):
    """Raises what the request's id says."""

    async def predict(self, payload):
        if payload.id.isdecimal():
            raise MLServerError("not today", int(payload.id))
        if payload.id == "encode":
            return self.encode_response({1, 2})
        raise {"value": ValueError("a bug"), "none": AssertionError()}[payload.id]
'''
FAULT_HEADER = "x-shoal-fault"


@pytest.fixture
async def raising(pod: Pod) -> str:
    folder = pod.claim / "raising"
    folder.mkdir(exist_ok=True)
    (folder / "raising.py").write_text(CUSTOM)
    settings = {"implementation": "raising.Raising", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    await pod.load("raising", "raising", model_key("custom"))
    return "raising"


def message(model: str, identity: str = "", *, name: str = "x", rows: int = 1, columns: int = 1) -> Any:
    request = inference.ModelInferRequest(model_name=model, id=identity)
    tensor = request.inputs.add(name=name, datatype="FP32", shape=[rows, columns])
    tensor.contents.fp32_contents.extend([0.0] * (rows * columns))
    return request


async def rest(pod: Pod, model: str, identity: str = "", *, name: str = "x", **body: Any) -> httpx.Response:
    tensor = {"name": name, "shape": [1], "datatype": "FP32", "data": [0.0]} | body
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://{HOST}:{pod.ports['http']}/v2/models/{model}/infer"
        return await client.post(url, json={"id": identity, "inputs": [tensor]})


async def grpc_error(pod: Pod, request: Any) -> tuple[grpc.StatusCode, str, str | None]:
    """Status, words, and who is at fault if that is said."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await pod.method("ModelInfer")(request)
    trailers = dict(error.value.trailing_metadata() or ())
    return error.value.code(), error.value.details() or "", trailers.get(FAULT_HEADER)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, grpc.StatusCode.INVALID_ARGUMENT),
        (403, grpc.StatusCode.PERMISSION_DENIED),
        (418, grpc.StatusCode.INVALID_ARGUMENT),
        (422, grpc.StatusCode.FAILED_PRECONDITION),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (500, grpc.StatusCode.INTERNAL),
        (503, grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_models_own_status_passes_through(pod: Pod, raising: str, status: int, code: grpc.StatusCode) -> None:
    assert await grpc_error(pod, message(raising, str(status))) == (code, "not today", None)
    answer = await rest(pod, raising, str(status))
    assert (answer.status_code, answer.json()) == (status, {"error": "not today"})


@pytest.mark.parametrize(
    ("identity", "words"),
    [("value", "ValueError: a bug"), ("none", "AssertionError"), ("encode", "Codec not found for output response")],
)
async def test_what_else_a_model_raises_is_its_own_fault(pod: Pod, raising: str, identity: str, words: str) -> None:
    code, told, fault = await grpc_error(pod, message(raising, identity))
    assert (code, fault) == (grpc.StatusCode.INTERNAL, None)
    assert words in told
    answer = await rest(pod, raising, identity)
    assert answer.status_code == 500
    assert words in answer.json()["error"]


async def test_a_name_that_the_model_does_not_declare_is_refused_in_every_form(pod: Pod, raising: str) -> None:
    words = "there is no input 'y'; the model has 'x'"
    assert await grpc_error(pod, message(raising, "400", name="y")) == (grpc.StatusCode.INVALID_ARGUMENT, words, None)
    raw = inference.ModelInferRequest(model_name=raising, raw_input_contents=[bytes(4)])
    raw.inputs.add(name="y", datatype="FP32", shape=[1])
    assert await refused(pod.method("ModelInfer")(raw)) == (grpc.StatusCode.INVALID_ARGUMENT, words)
    answer = await rest(pod, raising, "400", name="y")
    assert (answer.status_code, answer.json()["error"]) == (400, words)


async def test_a_request_that_no_model_could_take_is_marked_so(pod: Pod, raising: str) -> None:
    request = message(raising, "400")
    request.inputs[0].shape[:] = [7]
    code, words, fault = await grpc_error(pod, request)
    assert (code, fault) == (grpc.StatusCode.INVALID_ARGUMENT, "request")
    assert "needs 7 values" in words
    broken = pod.raw("ModelInfer")(b"\x0a\xff")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await broken
    assert (FAULT_HEADER, "request") in tuple(error.value.trailing_metadata() or ())
    for body in ({"shape": [7]}, {"data": [True]}):
        answer = await rest(pod, raising, "400", **body)
        assert (answer.status_code, answer.headers.get(FAULT_HEADER)) == (400, "request")
    assert FAULT_HEADER not in (await rest(pod, raising, "400")).headers


def at_fault(folder: Path) -> dict[str, str]:
    """Models that load and then err on requests that fit them: name to the words of the error."""
    digits = load_digits()
    without = GaussianNB().fit(digits.data, digits.target)
    del without.theta_
    joblib.dump(without, folder / "without.joblib")
    between = make_pipeline(PCA(4), SVC()).fit(digits.data, digits.target)
    between.steps[0] = ("other", PCA(5).fit(digits.data))
    joblib.dump(between, folder / "between.joblib")
    return {"without.joblib": "theta_", "between.joblib": "X has 5 features"}


async def test_a_model_of_a_library_that_errs_on_good_requests_is_at_fault(pod: Pod) -> None:
    for path, words in at_fault(pod.claim).items():
        await pod.load(path, path)
        code, told, _ = await grpc_error(pod, message(path, columns=64))
        assert (code, words in told) == (grpc.StatusCode.INTERNAL, True), told
        answer = await rest(pod, path, shape=[1, 64], data=[0.0] * 64)
        assert answer.status_code == 500, answer.text


@pytest.mark.parametrize(
    ("format_name", "path"), [("sklearn", "mnist-svm.joblib"), ("xgboost", "boosted.ubj"), ("lightgbm", "lgb")]
)
async def test_requests_that_do_not_fit_a_model_are_the_clients_fault(pod: Pod, format_name: str, path: str) -> None:
    await pod.load("m", path, model_key({"name": format_name, "version": "1"}))
    for request in (message("m", columns=3), message("m", rows=2, columns=3)):
        code, told, fault = await grpc_error(pod, request)
        assert (code, fault) == (grpc.StatusCode.INVALID_ARGUMENT, None), told
        assert "does not fit model 'm'" in told
        assert "Stack trace" not in told
    text = {"shape": [1, 64], "datatype": "BYTES", "data": ["a"] * 64}
    assert (await rest(pod, "m", **text)).status_code == 400


async def test_one_bad_request_does_not_fail_the_others_of_its_batch(pod: Pod) -> None:
    await pod.load(
        "batched", "mnist-svm.joblib", model_key(**{"shoal.max_batch_size": "8", "shoal.max_batch_time": "0.1"})
    )
    bad = message("batched", columns=64)
    bad.inputs[0].contents.fp32_contents[3] = float("nan")
    infer = pod.method("ModelInfer")
    calls = [infer(bad), *(infer(message("batched", columns=64)) for _ in range(5))]
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert first.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "contains NaN" in first.details()
    assert [len(answer.outputs) for answer in others] == [1] * 5
