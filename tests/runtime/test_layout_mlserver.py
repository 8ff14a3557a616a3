"""The folders MLServer is given: what upstream's adapter makes of each kind of model, without its defects."""

import json
from pathlib import Path
from typing import Any

import pytest

from shoal_runtime.drivers.base import Artifact
from shoal_runtime.errors import InvalidModelError
from shoal_runtime.layout.mlserver import MLServerLayout
from shoal_runtime.servers.mlserver import FORMATS


class Folder:
    """A layout, and a place for the models that are laid out."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "_mlserver_models"

    def file(self, name: str, text: str = "") -> Path:
        path = self.top / "pulled" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def place(self, path: Path, model_format: str, *, allow_hub: bool = False, **more: Any) -> dict:
        artifact = Artifact("m", path, 0, model_format, **more)
        layout = MLServerLayout(self.root, allow_hub=allow_hub)
        layout.place(artifact)
        return json.loads((self.root / "m" / "model-settings.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_file_is_linked_under_its_own_name(folder: Folder) -> None:
    settings = folder.place(folder.file("mnist-svm.joblib", "x"), "sklearn")
    uri = Path(settings["parameters"]["uri"])
    assert settings["name"] == "m"
    assert settings["implementation"] == "mlserver_sklearn.SKLearnModel"
    assert (uri.parent, uri.name, uri.read_text()) == (folder.root / "m", "mnist-svm.joblib", "x")


@pytest.mark.parametrize(
    ("files", "model_format", "found"),
    [
        (["model.joblib", "other.pkl"], "sklearn", ""),
        (["notes.md", "forest.pkl"], "sklearn", "/forest.pkl"),
        (["only.bin"], "lightgbm", "/only.bin"),
        (["a.txt", "b.txt"], "lightgbm", ""),
        (["net.onnx", "labels.txt"], "onnx", "/net.onnx"),
        (["weights.json"], "my-own", ""),
    ],
)
def test_the_file_in_a_folder_is_found(folder: Folder, files: list[str], model_format: str, found: str) -> None:
    for name in files:
        folder.file(f"top/{name}", "x")
    settings = folder.place(folder.top / "pulled/top", model_format)
    assert settings["parameters"]["uri"] == f"{folder.root}/m/top{found}"
    known = FORMATS.get(model_format)
    assert settings.get("implementation") == (known.implementation if known else None)


@pytest.mark.parametrize("model_format", ["mlflow", "huggingface"])
def test_a_format_that_is_a_folder_gets_it_without_links(folder: Folder, model_format: str) -> None:
    folder.file("top/MLmodel")
    settings = folder.place(folder.top / "pulled/top", model_format)
    assert settings["parameters"]["uri"] == str((folder.top / "pulled/top").resolve())


@pytest.mark.parametrize(("uri", "place"), [(None, ""), ("./inner", "/inner")])
def test_a_native_folder_of_such_a_format_too(folder: Folder, uri: str | None, place: str) -> None:
    folder.file("top/inner/MLmodel")
    folder.file("top/model-settings.json", json.dumps({"parameters": {"uri": uri}}))
    settings = folder.place(folder.top / "pulled/top", "mlflow")
    assert settings["parameters"]["uri"] == str((folder.top / "pulled/top").resolve()) + place


def test_an_empty_folder_is_refused(folder: Folder) -> None:
    (folder.top / "pulled").mkdir()
    with pytest.raises(InvalidModelError, match="is empty"):
        folder.place(folder.top / "pulled", "sklearn")
    assert not (folder.root / "m").exists()


def test_a_native_folder_keeps_its_settings_under_our_name(folder: Folder) -> None:
    folder.file("top/runtime.py")
    folder.file("top/sub/data.bin", "x")
    given = {
        "name": "theirs",
        "implementation": "runtime.Mine",
        "max_batch_size": 3,
        "parameters": {"uri": "./sub/data.bin"},
    }
    folder.file("top/model-settings.json", json.dumps(given))
    settings = folder.place(folder.top / "pulled/top", "sklearn")
    uri = f"{folder.root}/m/sub/data.bin"
    assert settings == {**given, "name": "m", "parameters": {"uri": uri}}
    assert Path(uri).read_text() == "x"
    assert (folder.root / "m" / "runtime.py").is_symlink()


@pytest.mark.parametrize("parameters", [None, {}, {"uri": None}, {"uri": ""}])
def test_a_native_folder_without_a_uri_is_its_own(folder: Folder, parameters: Any) -> None:
    folder.file("top/model-settings.json", json.dumps({"parameters": parameters}))
    settings = folder.place(folder.top / "pulled/top", "sklearn")
    assert settings["parameters"]["uri"] == str(folder.root / "m")
    assert settings["implementation"] == "mlserver_sklearn.SKLearnModel"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must hold a JSON object"),
        ('{"parameters": 3}', "parameters must be an object"),
        ('{"parameters": {"uri": 3}}', "uri must be a string"),
        ('{"parameters": {"uri": "../../etc/passwd"}}', "not in the model's own folder"),
        ('{"parameters": {"uri": "/etc/passwd"}}', "not in the model's own folder"),
        ('{"parameters": {"uri": "s3://bucket/model"}}', "not in the model's own folder"),
        ('{"parameters": {"uri": "missing.bin"}}', "put the files there"),
    ],
)
def test_native_settings_that_cannot_be_meant_are_refused(folder: Folder, text: str, message: str) -> None:
    folder.file("top/model-settings.json", text)
    with pytest.raises(InvalidModelError, match=message):
        folder.place(folder.top / "pulled/top", "sklearn")
    assert not (folder.root / "m").exists()


def test_a_hub_model_needs_leave(folder: Folder) -> None:
    implementation = FORMATS["huggingface"].implementation
    text = json.dumps({"implementation": implementation, "parameters": {"uri": "org/tiny-bert"}})
    folder.file("top/model-settings.json", text)
    with pytest.raises(InvalidModelError, match="ALLOW_HUB_MODELS"):
        folder.place(folder.top / "pulled/top", "huggingface")
    settings = folder.place(folder.top / "pulled/top", "huggingface", allow_hub=True)
    assert settings["parameters"]["uri"] == "org/tiny-bert"


TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}


def test_a_schema_replaces_what_it_has(folder: Folder) -> None:
    given = {"inputs": [{"name": "old"}], "outputs": [{"name": "kept"}]}
    folder.file("top/model-settings.json", json.dumps(given))
    schema = folder.file("_schema.json", json.dumps({"inputs": [TENSOR]}))
    settings = folder.place(folder.top / "pulled/top", "sklearn", schema_path=schema)
    assert settings["inputs"] == [TENSOR]
    assert settings["outputs"] == [{"name": "kept"}]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"inputs": {}}, "inputs must be a list"),
        ({"outputs": [3]}, r"outputs\[0\] must be an object"),
        ({"inputs": [{**TENSOR, "name": 1}]}, r"inputs\[0\].name must be a string"),
        ({"inputs": [TENSOR, {**TENSOR, "shape": ["4"]}]}, r"inputs\[1\].shape must be a list of whole numbers"),
    ],
)
def test_a_wrong_schema_is_refused_by_field(folder: Folder, schema: Any, message: str) -> None:
    path = folder.file("schema.json", json.dumps(schema))
    with pytest.raises(InvalidModelError, match=message):
        folder.place(folder.file("m.joblib"), "sklearn", schema_path=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_size": "-1"}, "shoal.max_batch_size='-1' must be a whole number"),
        ({"max_batch_size": "1.5"}, "whole number"),
        ({"max_batch_time": "soon"}, "number of seconds"),
        ({"max_batch_time": "nan"}, "number of seconds"),
        ({"max_batch_time": "61"}, "0 to 60"),
    ],
)
def test_batching_options_are_checked(folder: Folder, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        folder.place(folder.file("m.joblib"), "sklearn", options=options)


def test_options_win_over_native_settings(folder: Folder) -> None:
    folder.file("top/model-settings.json", json.dumps({"max_batch_size": 2, "implementation": "a.B"}))
    options = {"max_batch_size": "9", "max_batch_time": "0.1", "implementation": "c.D"}
    settings = folder.place(folder.top / "pulled/top", "sklearn", options=options)
    assert (settings["max_batch_size"], settings["max_batch_time"], settings["implementation"]) == (9, 0.1, "c.D")


def test_a_model_called_like_the_settings_does_not_clash(folder: Folder) -> None:
    settings = folder.place(folder.file("model-settings.json", "{}"), "xgboost")
    assert settings["parameters"]["uri"] == f"{folder.root}/m/_model-settings.json"


def test_placing_again_and_tidying_leave_what_links_point_to(folder: Folder) -> None:
    artifact = folder.file("m.joblib", "x")
    layout = MLServerLayout(folder.root)
    for model_id in ("m", "m", "n/..", "_x"):
        layout.place(Artifact(model_id, artifact, 0, "sklearn"))
    (folder.root / "junk").mkdir()
    assert layout.present() == {"m", "n/..", "_x"}
    layout.tidy(frozenset({"n/.."}))
    assert layout.present() == {"n/.."}
    assert len(list(folder.root.iterdir())) == 1
    assert artifact.read_text() == "x"
