"""Models that MLflow saved, served by MLServer's runtime for them. Needs the extra `mlflow`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from needs import need
from shoal_protos import inference
from support.runtime import Pod, clean_environment, model_key, refused

pytestmark = pytest.mark.server
TRAIN = """
import json, sys
import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from runtime_training import digits
images, labels = digits()
model = LogisticRegression(max_iter=200).fit(images[:400] / 16, labels[:400])
rows = images[:8] / 16
mlflow.sklearn.save_model(
    model,
    sys.argv[1],
    signature=infer_signature(rows, model.predict(rows)),
    pip_requirements=["scikit-learn"],  # else it runs the model in a process of its own to find out, for seconds
    serialization_format="cloudpickle",
)
print(json.dumps([rows.tolist(), model.predict(rows).tolist()]))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[float]], list[int]]:
    """A model directory written by `mlflow.sklearn.save_model` with a signature, rows, and what it says of them."""
    need("mlflow")
    folder = tmp_path_factory.mktemp("mlflow")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder / "model")],
        env=clean_environment(PYTHONPATH=os.pathsep.join(sys.path)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows, expected = json.loads(done.stdout.splitlines()[-1])
    return folder / "model", rows, expected


@pytest.fixture
async def mlflow_pod(tmp_path: Path, saved: tuple[Path, Any, Any]) -> AsyncIterator[Pod]:
    pod = Pod(tmp_path, SHOAL_WARM_FORMATS="mlflow")
    shutil.copytree(saved[0], pod.claim / "digits")
    pod.start_server()
    pod.start_adapter()
    pod.connect()
    await pod.ready()
    yield pod
    await pod.disconnect()
    pod.stop()


async def test_a_model_directory_of_mlflow_is_served(mlflow_pod: Pod, saved: tuple[Path, Any, Any]) -> None:
    _, rows, expected = saved
    pod = mlflow_pod
    answer = await pod.load("m", "digits", model_key({"name": "mlflow", "version": "3"}))
    assert answer.sizeInBytes > 0
    assert await pod.infer("m", rows) == expected
    request = inference.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[len(rows), 64])
    request.raw_input_contents.append(np.array(rows, np.float32).tobytes())
    raw = await pod.method("ModelInfer")(request)
    assert np.frombuffer(raw.raw_output_contents[0], np.int64).tolist() == expected
    metadata = await pod.method("ModelMetadata")(inference.ModelMetadataRequest(name="m"))
    assert [list(tensor.shape) for tensor in metadata.inputs] == [[-1, 64]]
    await pod.unload("m")
    assert await pod.loaded() == set()


async def test_a_directory_that_is_no_model_says_so(mlflow_pod: Pod) -> None:
    (mlflow_pod.claim / "other").mkdir()
    (mlflow_pod.claim / "other" / "notes.txt").write_text("nothing")
    code, message = await refused(mlflow_pod.load("m", "other", model_key("mlflow")))
    assert code is grpc.StatusCode.INTERNAL
    assert "MLmodel" in message
