"""Models of every format, through storage, layout, adapter and a real MLServer, to their own right answers."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from shoal_protos import inference
from shoal_protos.mmesh import model_runtime_pb2 as pb
from support.runtime import Pod, model_key, refused

pytestmark = pytest.mark.server

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def expected(trained: Path) -> dict:
    return json.loads((trained / "expected.json").read_text())


@pytest.mark.parametrize(
    ("format_name", "path"), [("sklearn", "mnist-svm.joblib"), ("xgboost", "boosted.ubj"), ("lightgbm", "lgb")]
)
async def test_a_model_of_each_format_answers_right(pod: Pod, expected: dict, format_name: str, path: str) -> None:
    answer = await pod.load("m", path, model_key({"name": format_name, "version": "1"}))
    assert answer.sizeInBytes > 0
    assert await pod.infer("m", expected["rows"]) == pytest.approx(expected[format_name], rel=1e-5)
    assert await pod.loaded() == {"m"}


async def test_an_onnx_model_answers_by_input_name(pod: Pod, expected: dict) -> None:
    await pod.load("m", "digits.onnx", model_key("onnx"))
    rows = [[pixel / 16 for pixel in row] for row in expected["rows"]]
    assert await pod.infer("m", rows, name="pixels") == expected["onnx"]
    assert await pod.infer("m", rows, name="pixels", datatype="FP64") == expected["onnx"]
    code, message = await refused(pod.infer("m", rows, name="whatever"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message == "there is no input 'whatever'; the model has 'pixels'"
    metadata = await pod.method("ModelMetadata")(inference.ModelMetadataRequest(name="m"))
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("pixels", "FP32", [-1, 64])]
    code, message = await refused(pod.infer("m", [[1.0, 2.0]], name="pixels"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "do not fit" in message
    code, message = await refused(pod.infer("m", [[1e300] * 64], name="pixels", datatype="FP64"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message == "input 'pixels' is FP64 with values beyond those of FP32, which the model takes"


async def test_the_answer_has_the_form_stock_mlserver_gives(pod: Pod, expected: dict) -> None:
    name = "sklearn-mnist__isvc-3c10c62d34"
    await pod.load(name, "mnist-svm.joblib")
    request = inference.ModelInferRequest(model_name=name)
    tensor = request.inputs.add(name="predict", datatype="FP32", shape=[1, 64])
    tensor.contents.fp32_contents.extend(expected["rows"][0])
    answer = await pod.method("ModelInfer")(request)
    output = answer.outputs[0]
    assert (answer.model_name, output.name, output.datatype, list(output.shape)) == (name, "predict", "INT64", [1, 1])
    assert list(output.contents.int64_contents) == expected["sklearn"][:1]


async def test_unload_leaves_nothing_in_memory_or_on_disk(pod: Pod) -> None:
    await pod.load("m", "mnist-svm.joblib")
    await pod.unload("m")
    assert await pod.loaded() == set()
    code, _ = await refused(pod.infer("m", [[0.0] * 64]))
    assert code is grpc.StatusCode.NOT_FOUND
    assert not list(pod.root.glob("m*"))
    assert not list(pod.root.glob("_mlserver_models/*"))
    await pod.unload("m")


@pytest.mark.parametrize("model_id", ["a/b/../c", "_hidden", "..", "with space,+=@", "x" * 200])
async def test_any_id_is_served_and_stays_in_its_folder(pod: Pod, model_id: str) -> None:
    await pod.load(model_id, "mnist-svm.joblib")
    assert len(await pod.infer(model_id, [[0.0] * 64])) == 1
    assert {path.parent for path in pod.root.glob("_mlserver_models/**/model-settings.json")} == {
        next((pod.root / "_mlserver_models").iterdir())
    }
    await pod.unload(model_id)
    assert not list(pod.root.glob("_mlserver_models/*"))


async def test_what_a_model_key_says_of_batching_reaches_mlserver(pod: Pod, expected: dict) -> None:
    options = {"shoal.max_batch_size": "8", "shoal.max_batch_time": "0.05"}
    await pod.load("m", "mnist-svm.joblib", model_key(**options))
    settings = json.loads((pod.root / "_mlserver_models/m/model-settings.json").read_text())
    assert (settings["max_batch_size"], settings["max_batch_time"]) == (8, 0.05)
    answers = await asyncio.gather(*(pod.infer("m", [row]) for row in expected["rows"]))
    assert [answer[0] for answer in answers] == expected["sklearn"]
    await pod.load("m", "mnist-svm.joblib", model_key(**options))
    assert await pod.infer("m", expected["rows"]) == expected["sklearn"]


@pytest.mark.parametrize(
    ("path", "key", "code", "part"),
    [
        ("nope.joblib", None, grpc.StatusCode.FAILED_PRECONDITION, "nope.joblib"),
        ("mnist-svm.joblib", "{", grpc.StatusCode.INVALID_ARGUMENT, "modelKey"),
        ("mnist-svm.joblib", model_key(3), grpc.StatusCode.INVALID_ARGUMENT, "model_type"),
        ("mnist-svm.joblib", model_key(claim="other"), grpc.StatusCode.FAILED_PRECONDITION, "other"),
        ("../../etc/passwd", None, grpc.StatusCode.INVALID_ARGUMENT, ".."),
        ("mnist-svm.joblib", model_key("no-such"), grpc.StatusCode.INVALID_ARGUMENT, "no-such"),
        ("mnist-svm.joblib", model_key(**{"shoal.colour": "red"}), grpc.StatusCode.INVALID_ARGUMENT, "shoal.colour"),
        ("expected.json", None, grpc.StatusCode.INTERNAL, "MLServer"),
    ],
)
async def test_a_load_that_cannot_work_says_why_and_leaves_nothing(
    pod: Pod, path: str, key: str | None, code: grpc.StatusCode, part: str
) -> None:
    got, message = await refused(pod.load("bad", path, key))
    assert (got, part in message) == (code, True), message
    assert await pod.loaded() == set()
    assert not list(pod.root.glob("bad*"))
    assert not list(pod.root.glob("_mlserver_models/*"))


async def test_an_empty_id_is_refused_everywhere(pod: Pod) -> None:
    for call in (
        pod.load("", "x"),
        pod.unload(""),
        pod.runtime.modelSize(pb.ModelSizeRequest()),
        pod.runtime.predictModelSize(pb.PredictModelSizeRequest()),
    ):
        code, message = await refused(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "modelId" in message


async def test_sizes_are_predicted_before_and_known_after_a_load(pod: Pod) -> None:
    request = pb.PredictModelSizeRequest(modelId="new", modelType="mt:sklearn", modelKey='{"disk_size_bytes": 1000000}')
    predicted = await pod.runtime.predictModelSize(request, timeout=0.5)
    assert predicted.sizeInBytes > 500_000
    code, _ = await refused(pod.runtime.modelSize(pb.ModelSizeRequest(modelId="m")))
    assert code is grpc.StatusCode.NOT_FOUND
    loaded = await pod.load("m", "mnist-svm.joblib")
    size = await pod.runtime.modelSize(pb.ModelSizeRequest(modelId="m"))
    assert size.sizeInBytes == loaded.sizeInBytes


async def test_the_status_upstreams_mesh_asks_for_empties_the_pod_first(pod: Pod) -> None:
    await pod.load("m", "mnist-svm.joblib")
    status = await pod.runtime.runtimeStatus(pb.RuntimeStatusRequest())
    assert status.status == pb.RuntimeStatusResponse.READY
    assert (status.capacityInBytes, status.maxLoadingConcurrency) == (896 * MIB, 4)
    assert (status.modelLoadingTimeoutMs, status.defaultModelSizeInBytes) == (30_000, 1_000_000)
    assert status.runtimeVersion == "1.7.1"
    paths = {method: list(info.idInjectionPath) for method, info in status.methodInfos.items()}
    assert paths["inference.GRPCInferenceService/ModelInfer"] == [1]
    assert await pod.loaded() == set()
    code, _ = await refused(pod.infer("m", [[0.0] * 64]))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_a_format_whose_library_is_missing_says_so(pod: Pod) -> None:
    (pod.claim / "bert").mkdir()
    (pod.claim / "bert" / "config.json").write_text("{}")
    code, message = await refused(pod.load("m", "bert", model_key("huggingface")))
    assert code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    assert "No module named 'mlserver_huggingface'" in message
