"""Why a model does not load: each message names the file, has the library's last words, and says what to do."""

from __future__ import annotations

import re
import sys
import types
from importlib.metadata import version
from pathlib import Path

import grpc
import joblib
import pytest
from mlserver.model import MLModel
from mlserver.settings import ModelSettings

from shoal_runtime.mlserver.loading import explained
from support.runtime import Pod, model_key, refused

pytestmark = pytest.mark.server

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
SKLEARN = "scikit-learn"


class Mine:
    """A class of the script that saved a model."""


@pytest.fixture(scope="module")
def files(trained: Path) -> dict[str, bytes]:
    """Files that look like models: name to content."""
    good = (trained / "mnist-svm.joblib").read_bytes()
    return {
        "empty.joblib": b"",
        "cut.joblib": good[: len(good) // 2],
        "end.joblib": good[:-1],
        "text.joblib": b"hello\n",
        "page.joblib": b"<!DOCTYPE html><html></html>",
        "pointer.joblib": LFS,
        "zip.joblib": b"PK\x03\x04" + bytes(60),
        "old.joblib": good.replace(b"sklearn.svm._classes", b"sklearn.svm.classes_"),
        "a.onnx": b"garbage" * 50,
        "a.ubj": b"garbage" * 50,
        "a.lgb": b"garbage",
    }


FAILURES = {
    "empty.joblib": ("sklearn", "EOFError; the file is empty; upload it again"),
    "cut.joblib": ("sklearn", "ValueError: EOF: reading array data, ...; the file ends early; upload it again, whole"),
    "end.joblib": ("sklearn", "EOFError; the file ends early; upload it again, whole"),
    "text.joblib": ("sklearn", "...; it is no file of joblib or pickle; write it with joblib.dump"),
    "page.joblib": (
        "sklearn",
        "...; it is a web page or XML, not a model; look at what the address or ...",
    ),
    "pointer.joblib": (
        "sklearn",
        "...; it is a pointer of Git LFS, not the model; run `git lfs pull` ...",
    ),
    "zip.joblib": ("sklearn", "...; it is a zip archive; unpack it"),
    "old.joblib": (
        "sklearn",
        "ModuleNotFoundError: No module named 'sklearn.svm.classes_'; it was saved with another version of "
        f"scikit-learn than the runtime's, {version(SKLEARN)}; save it with that one",
    ),
    "a.onnx": ("onnx", "InvalidProtobuf: ...; it is no model of ONNX; export it again"),
    "a.ubj": (
        "xgboost",
        "XGBoostError: ... Invalid model format in: `a.ubj`; it is no model of XGBoost; ...",
    ),
    "a.lgb": (
        "lightgbm",
        "LightGBMError: Unknown model format ... a.lgb; it is no model of LightGBM; ...",
    ),
}


def same(found: str, expected: str) -> bool:
    """Whether a text is the expected one, in which `...` stands for what differs."""
    return re.fullmatch(re.escape(expected).replace(re.escape("..."), ".*"), found, re.DOTALL) is not None


@pytest.mark.parametrize("name", FAILURES)
async def test_a_file_that_is_no_model_is_told_with_cause_and_fix(pod: Pod, files: dict[str, bytes], name: str) -> None:
    (pod.claim / name).write_bytes(files[name])
    format_name, words = FAILURES[name]
    code, message = await refused(pod.load("m", name, model_key(format_name)))
    assert code is grpc.StatusCode.INTERNAL
    assert same(message, f"MLServer: '{name}' does not load: {words}"), message
    assert str(pod.folder) not in message


async def test_a_module_or_class_that_the_runtime_lacks_is_named(pod: Pod) -> None:
    module = types.ModuleType("not_installed_here")
    sys.modules[module.__name__] = module
    try:
        module.Thing = type("Thing", (), {"__module__": module.__name__})
        joblib.dump(module.Thing(), pod.claim / "module.joblib")
    finally:
        del sys.modules[module.__name__]
    _, message = await refused(pod.load("m", "module.joblib"))
    assert message == (
        "MLServer: 'module.joblib' does not load: ModuleNotFoundError: No module named 'not_installed_here'; "
        "install the module 'not_installed_here' in the runtime's environment, or save the model without it"
    )
    main = sys.modules["__main__"]
    main.Mine, Mine.__module__ = Mine, "__main__"
    joblib.dump(Mine(), pod.claim / "main.joblib")
    _, message = await refused(pod.load("m", "main.joblib"))
    assert message.endswith(
        "'Mine' was defined in the script that saved the model; move it to a module that the runtime has"
    )


async def test_a_file_that_holds_something_else_than_a_model_is_refused_when_it_loads(pod: Pod) -> None:
    joblib.dump({"accuracy": 1.0}, pod.claim / "dict.joblib")
    code, message = await refused(pod.load("m", "dict.joblib"))
    assert code is grpc.StatusCode.INTERNAL
    assert message == (
        "MLServer: 'dict.joblib' holds an object of type dict, which has none of predict, predict_proba, transform; "
        "save the fitted estimator itself"
    )


async def test_a_folder_for_mlflow_is_asked_for(pod: Pod) -> None:
    _, message = await refused(pod.load("m", "mnist-svm.joblib", model_key("mlflow")))
    assert "storage.path must be the folder that mlflow's save_model wrote" in message


def test_rights_and_memory_have_fixes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "m.joblib").write_bytes(b"x")
    kind = type("SKLearnModel", (MLModel,), {"__module__": "mlserver_sklearn.sklearn"})
    model = kind(ModelSettings(name="m", implementation=MLModel, parameters={"uri": str(tmp_path / "m.joblib")}))
    told = explained(model, PermissionError(13, "Permission denied", str(tmp_path / "m.joblib")))
    assert str(told) == (
        "'m.joblib' does not load: PermissionError: [Errno 13] Permission denied: 'm.joblib'; "
        "the model server may not read it; allow that with chmod"
    )
    assert str(explained(model, MemoryError())).endswith("too little memory for it; give the runtime more")
    assert explained(MLModel(model.settings), ValueError("its own words")) is None
