"""MLServer with the formats that Shoal's own build of its runtimes serves.

Formats, ports and environment are as upstream's runtime of the same name, plus newer versions, more formats and the
HTTP endpoint.
"""

from __future__ import annotations

import json
from typing import Final

from shoal_runtime.mlserver.folders import SETTINGS_FILE
from shoal_runtime.servers import Format, ModelServer, Rule

MODELS_FOLDER: Final = "_mlserver_models"
"""Below the adapter's root; what `MLSERVER_MODELS_DIR` must name."""
_KIB: Final = 1024


def _implementation_in(settings: bytes) -> object:
    document = json.loads(settings)
    if not isinstance(document, dict):
        raise ValueError(f"it is no JSON object but a {type(document).__name__}")  # noqa: TRY004 -- as for what is no JSON
    return document.get("implementation")


# Memory was measured with MLServer 1.7.1 and rounded up: see docs of the formats' runtimes and `bench`.
FORMATS: Final = {
    "sklearn": Format(
        implementation="mlserver_sklearn.SKLearnModel",
        versions=("0", "1"),
        names=("model.joblib", "model.pickle", "model.pkl"),
        suffixes=(".joblib", ".pickle", ".pkl"),
        memory=Rule(8 * _KIB, 1.25),
        # All of sklearn's: 1.5 s, 65 MiB.
        warm=(
            "mlserver_sklearn",
            "sklearn.cluster",
            "sklearn.compose",
            "sklearn.ensemble",
            "sklearn.feature_extraction.text",
            "sklearn.linear_model",
            "sklearn.naive_bayes",
            "sklearn.neural_network",
            "sklearn.svm",
        ),
    ),
    "xgboost": Format(
        implementation="mlserver_xgboost.XGBoostModel",
        versions=("1", "2", "3"),
        names=("model.bst", "model.json", "model.ubj"),
        suffixes=(".ubj", ".xgb", ".json", ".bst"),
        other_suffixes=(".model",),
        memory=Rule(64 * _KIB, 1.0),
        warm=("mlserver_xgboost",),
    ),
    "lightgbm": Format(
        implementation="mlserver_lightgbm.LightGBMModel",
        versions=("3", "4"),
        names=("model.bst",),
        suffixes=(".lgb", ".txt", ".bst"),
        other_suffixes=(".model",),
        memory=Rule(64 * _KIB, 3.0),
        warm=("mlserver_lightgbm",),
    ),
    "mlflow": Format(
        implementation="mlserver_mlflow.MLflowRuntime",
        versions=("1", "2", "3"),
        folder=True,
        memory=Rule(64 * _KIB, 1.5),
        warm=("mlserver_mlflow",),
    ),
    "huggingface": Format(
        implementation="mlserver_huggingface.HuggingFaceRuntime",
        versions=("1",),
        folder=True,
        hub=True,
        memory=Rule(16 * _KIB * _KIB, 1.3),
        warm=("mlserver_huggingface",),
    ),
    "onnx": Format(
        implementation="shoal_runtime.mlserver.onnx.OnnxModel",
        versions=("1",),
        names=("model.onnx",),
        suffixes=(".onnx",),
        memory=Rule(80 * _KIB, 6.0),
        warm=("shoal_runtime.mlserver.onnx",),
    ),
    "mllib": Format(implementation="mlserver_mllib.MLlibModel", folder=True),
}
"""Formats whose class is known. For others the settings name one, or the server's own default is used."""

SERVER: Final = ModelServer(
    about=f"an MLServer on POD_IP:RUNTIME_PORT, started with ROOT_MODEL_DIR/{MODELS_FOLDER} as its folder",
    driver="shoal_runtime.drivers.mlserver:make_driver",
    image="seldonio/mlserver:1.7.1",
    command=("python", "-m", "shoal_runtime.mlserver", "start", "$(MLSERVER_MODELS_DIR)"),
    formats=FORMATS,
    runtime="mlserver-1.x",
    env={
        "MLSERVER_MODELS_DIR": f"/models/{MODELS_FOLDER}/",
        "MLSERVER_GRPC_PORT": "{grpc}",
        "MLSERVER_HTTP_PORT": "{http}",
        "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
        "MLSERVER_MODEL_NAME": "dummy-model",
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_GRPC_MAX_MESSAGE_LENGTH": "-1",
    },
    pod_env={"MLSERVER_HOST": "$(POD_IP)"},
    pod_defaults={
        # Worker processes crash-loop with current event loops and copy every model.
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION": "shoal_runtime.mlserver.repository.DirectRepository",
        "MLSERVER_DEBUG": "false",
        "OMP_NUM_THREADS": "{threads}",
        "OPENBLAS_NUM_THREADS": "{threads}",
        "MKL_NUM_THREADS": "{threads}",
    },
    metrics_variable="MLSERVER_METRICS_PORT",
    settings_file=SETTINGS_FILE,
    implementation_in=_implementation_in,
)
