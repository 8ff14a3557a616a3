from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from shoal.package.build import build, read_signature
from shoal.package.errors import InvalidPackage
from shoal.package.manifest import Signature, TensorSpec, read_manifest
from shoal.package.names import file_path
from shoal.package.package import open_directory
from shoal.package.samples import samples_of
from support.package import SAMPLES, about, make_package

MLMODEL = """
flavors:
  python_function: {{loader_module: mlflow.sklearn, model_path: {file}, predict_fn: predict}}
  {flavour}
mlflow_version: 3.1.0
run_id: 0af7651916cd43dd8448eb211c80319c
signature:
  inputs: '{inputs}'
  outputs: '[{{"type": "tensor", "tensor-spec": {{"dtype": "int64", "shape": [-1]}}}}]'
"""
TENSORS = '[{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 64]}}]'
COLUMNS = '[{"name": "age", "type": "double", "required": true}, {"name": "city", "type": "string"}]'
SKLEARN = "sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle}"


def mlflow(folder, flavour=SKLEARN, inputs=TENSORS, file="model.pkl"):
    folder.mkdir()
    (folder / "MLmodel").write_text(MLMODEL.format(flavour=flavour, inputs=inputs, file=file))
    (folder / "requirements.txt").write_text("scikit-learn==1.6.1\nnumpy==2.1 # fast\npandas\n")
    (folder / file).write_bytes(pickle.dumps(1))
    return folder


def write(path, data: bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "model_format", "kept"),
    [
        ("digits.joblib", b"x", "sklearn", "model.joblib"),
        ("digits.v2.pkl", b"x", "sklearn", "model.pkl"),
        ("a.pickle", b"x", "sklearn", "model.pickle"),
        ("a.ubj", b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{", "xgboost", "model.ubj"),
        ("a.json", b'{"learner":{}}', "xgboost", "model.json"),
        ("a.bst", b"bs64", "xgboost", "model.bst"),
        ("a.bst", b"tree\nversion=v4", "lightgbm", "model.bst"),
        ("a.txt", b"tree\nversion=v4", "lightgbm", "model.txt"),
        ("a.lgb", b"tree\nversion=v4", "lightgbm", "model.lgb"),
    ],
)
def test_the_format_of_a_file_is_told_by_name_and_content(tmp_path, name, data, model_format, kept):
    package = build(write(tmp_path / name, data), tmp_path / "package")
    assert package.content.format == model_format
    assert list(package.content.files) == [kept]
    assert (tmp_path / "package" / "model" / kept).read_bytes() == data


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("model", b"x", "cannot be told by its name"),
        ("model.bin", b"x", "cannot be told by its name"),
        ("model.joblib", b"", "is empty"),
        ("notes.txt", b"hello", "not a model that LightGBM saved"),
        ("data.json", b'{"a": 1}', "not a model that XGBoost saved"),
        ("data.ubj", b"hello", "not a model that XGBoost saved"),
        ("model.onnx", b"nonsense", "no ONNX model"),
    ],
)
def test_files_that_are_no_models_are_refused(tmp_path, name, data, problem):
    with pytest.raises(InvalidPackage, match=problem):
        build(write(tmp_path / name, data), tmp_path / "package")
    assert not (tmp_path / "package").exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name]


def test_any_file_can_be_packaged_under_a_format_that_is_named(tmp_path):
    package = build(write(tmp_path / "weights.bin", b"x"), tmp_path / "package", format="custom", version="2")
    assert (package.content.format, package.content.version) == ("custom", "2")
    assert list(package.content.files) == ["weights.bin"]


def test_the_same_bytes_make_the_same_package_whatever_the_file_is_called(tmp_path):
    one = build(write(tmp_path / "a.joblib", b"x"), tmp_path / "1", about=about(owner="Ada"))
    two = build(write(tmp_path / "b" / "b.joblib", b"x"), tmp_path / "2")
    three = build(tmp_path / "b", tmp_path / "3")
    assert one.digest == two.digest == three.digest
    assert build(tmp_path / "b", tmp_path / "4", version="1").digest != one.digest


def test_an_mlflow_model_is_packaged_in_its_flavours_own_format(tmp_path):
    package = build(mlflow(tmp_path / "m"), tmp_path / "package")
    assert package.content.format == "sklearn"
    assert list(package.content.files) == ["model.pkl"]
    assert package.content.signature == Signature(
        inputs=[TensorSpec(name="x", datatype="FP64", shape=[-1, 64])],
        outputs=[TensorSpec(name="output-0", datatype="INT64", shape=[-1])],
    )
    assert package.about.environment == {"scikit-learn": "1.6.1", "numpy": "2.1", "mlflow": "3.1.0"}
    assert package.about.lineage.origin == "mlflow run 0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("flavour", "file", "model_format"),
    [
        ("xgboost: {data: model.ubj}", "model.ubj", "xgboost"),
        ("lightgbm: {data: model.lgb}", "model.lgb", "lightgbm"),
        ("sklearn: {pickled_model: model.skops, serialization_format: skops}", "model.skops", "mlflow"),
        ("lightgbm: {data: model.skops}", "model.skops", "mlflow"),
        ("pytorch: {model_data: data}", "data", "mlflow"),
    ],
)
def test_flavours(tmp_path, flavour, file, model_format):
    package = build(mlflow(tmp_path / "m", flavour, file=file), tmp_path / "package")
    assert package.content.format == model_format
    assert len(package.content.files) == (3 if model_format == "mlflow" else 1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_model_as_mlflow_saves_it_today_is_packaged_as_a_whole(tmp_path, monkeypatch):
    """Its own default for scikit-learn is a file that only it reads."""
    monkeypatch.chdir(tmp_path)
    import mlflow.sklearn
    from sklearn.dummy import DummyClassifier

    model = DummyClassifier().fit([[0.0], [1.0]], [0, 1])
    mlflow.sklearn.save_model(model, str(tmp_path / "m"), pip_requirements=["scikit-learn==1.6"])
    package = build(tmp_path / "m", tmp_path / "package")
    assert package.content.format == "mlflow"
    assert {"MLmodel", "model.skops"} <= package.content.files.keys()
    assert package.about.environment["scikit-learn"] == "1.6"
    options = {"serialization_format": "pickle", "pip_requirements": []}
    mlflow.sklearn.save_model(model, str(tmp_path / "p"), **options)
    assert build(tmp_path / "p", tmp_path / "pickled").content.format == "sklearn"


def test_an_mlflow_model_can_be_packaged_as_a_whole_with_its_columns(tmp_path):
    package = build(mlflow(tmp_path / "m", inputs=COLUMNS), tmp_path / "package", format="mlflow")
    assert sorted(package.content.files) == ["MLmodel", "model.pkl", "requirements.txt"]
    tensors = package.content.signature.inputs
    assert [(t.name, t.datatype, t.shape) for t in tensors] == [("age", "FP64", [-1, 1]), ("city", "BYTES", [-1, 1])]
    assert build(tmp_path / "m", tmp_path / "other").content.signature is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be an object"),
        ("flavors: 3", "must be an object"),
        ("flavors: {spark: {}}", "no flavour that is served: spark"),
        ("a: [", "is not YAML"),
        ("flavors: {sklearn: {pickled_model: ../../etc/passwd}}", "leaves its folder"),
        ("flavors: {sklearn: {pickled_model: model.pkl}}", r"there is no model\.pkl; copy all"),
    ],
)
def test_broken_mlflow_models_are_refused(tmp_path, text, problem):
    write(tmp_path / "m" / "MLmodel", text.encode())
    with pytest.raises(InvalidPackage, match=problem):
        build(tmp_path / "m", tmp_path / "package")


def test_an_mlflow_model_without_the_named_flavour_is_refused(tmp_path):
    with pytest.raises(InvalidPackage, match="no flavour of format 'onnx'"):
        build(mlflow(tmp_path / "m"), tmp_path / "package", format="onnx")
    other = mlflow(tmp_path / "other", "lightgbm: {data: model.skops}", file="model.skops")
    with pytest.raises(InvalidPackage, match=r"do not read model\.skops; leave out --format"):
        build(other, tmp_path / "package", format="lightgbm")


def onnx_with_weights(folder):
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", sides[:1], sides[1:], [weights])
    folder.mkdir()
    options = {"save_as_external_data": True, "location": "net.weights", "size_threshold": 0}
    save(helper.make_model(graph), str(folder / "net.onnx"), **options)
    return folder / "net.onnx"


def test_an_onnx_model_brings_the_files_of_its_weights(tmp_path):
    graph = onnx_with_weights(tmp_path / "m")
    package = build(graph, tmp_path / "package")
    assert sorted(package.content.files) == ["model.onnx", "net.weights"]
    (tmp_path / "m" / "net.weights").unlink()
    with pytest.raises(InvalidPackage, match=r"weights in net\.weights, which is not beside it"):
        build(graph, tmp_path / "other")


def test_an_onnx_model_with_weights_elsewhere_is_refused(tmp_path):
    graph = onnx_with_weights(tmp_path / "m")
    graph.write_bytes(graph.read_bytes().replace(b"net.weights", b"../t.weight"))
    with pytest.raises(InvalidPackage, match="leaves its folder"):
        build(graph, tmp_path / "package")


def test_the_signature_of_an_onnx_model_is_read_from_its_graph(tmp_path):
    from onnx import TensorProto, helper, save

    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", inputs, outputs)
    save(helper.make_model(graph), str(tmp_path / "any.onnx"))
    package = build(tmp_path / "any.onnx", tmp_path / "package")
    assert package.content.format == "onnx"
    assert package.content.signature == Signature(
        inputs=[TensorSpec(name="x", datatype="FP32", shape=[-1, 4])],
        outputs=[TensorSpec(name="y", datatype="FP32", shape=[-1, 4])],
    )


def test_a_folder_with_settings_of_its_own_keeps_its_files(tmp_path):
    settings = {"name": "m", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./m.pkl"}}
    write(tmp_path / "m" / "model-settings.json", json.dumps(settings).encode())
    write(tmp_path / "m" / "m.pkl", b"x")
    package = build(tmp_path / "m", tmp_path / "package")
    assert package.content.format == "sklearn"
    assert sorted(package.content.files) == ["m.pkl", "model-settings.json"]
    write(tmp_path / "m" / "model-settings.json", b'{"implementation": "my.Model"}')
    with pytest.raises(InvalidPackage, match=r"my\.Model.*--format"):
        build(tmp_path / "m", tmp_path / "other")


def test_without_a_signature_the_samples_say_what_goes_in_and_out(package):
    assert package.content.signature == Signature(
        inputs=[TensorSpec(name="x", datatype="FP32", shape=[-1, 2])],
        outputs=[TensorSpec(name="y", datatype="INT64", shape=[-1])],
    )


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        ({"name": "z", "datatype": "FP32", "shape": [-1, 2]}, "no input of the signature; rename it to one of z"),
        ({"name": "x", "datatype": "FP64", "shape": [-1, 2]}, r"is FP32 \[1, 2\], the signature says FP64"),
        ({"name": "x", "datatype": "FP32", "shape": [-1, 3]}, "the signature says"),
        ({"name": "x", "datatype": "FP32", "shape": [2]}, "the signature says"),
    ],
)
def test_samples_must_fit_the_signature(tmp_path, tensor, problem):
    path = write(tmp_path / "signature.json", json.dumps({"inputs": [tensor]}).encode())
    with pytest.raises(InvalidPackage, match=problem):
        make_package(tmp_path, signature=read_signature(path))


def test_wrong_signatures_are_refused_by_their_field(tmp_path):
    path = write(tmp_path / "signature.json", b'{"inputs": [{"name": "x", "datatype": "FLOAT", "shape": ["a"]}]}')
    with pytest.raises(InvalidPackage, match=r"inputs\[0\]\.datatype.*inputs\[0\]\.shape\[0\]"):
        read_signature(path)


def test_links_special_files_and_escapes_are_refused(tmp_path):
    source = write(tmp_path / "m" / "model.joblib", b"x").parent
    for make in (lambda path: path.symlink_to("/etc/passwd"), lambda path: path.symlink_to("."), os.mkfifo):
        make(source / "more")
        with pytest.raises(InvalidPackage, match="link or a special file"):
            build(source, tmp_path / "package", format="sklearn")
        (source / "more").unlink()
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(InvalidPackage, match="is a link"):
        build(tmp_path / "link", tmp_path / "package")
    (tmp_path / "link.joblib").symlink_to(source / "model.joblib")
    with pytest.raises(InvalidPackage, match="is a link"):
        build(tmp_path / "link.joblib", tmp_path / "package")
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/a", "..", "../a", "a/../b", "a/..", ".", "./a", "a//b", "a/", "a\\b", "a\0b", "a\nb", "\x1b[31m"),
        *("x" * 256, "/".join(["x" * 100] * 6), "a\u202eb", "\ud800"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path):
    with pytest.raises(InvalidPackage):
        file_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", ".hidden", "...", "ä/ö", "with space", "x" * 255])
def test_paths_that_stay_are_fine(path):
    assert file_path(path) == path


def test_limits_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.package.build.MAX_FILES", 3)
    with pytest.raises(InvalidPackage, match="has 4 files; at most 3"):
        make_package(tmp_path / "many", {f"{number}.joblib": b"x" for number in range(4)})
    monkeypatch.setattr("shoal.package.build.MAX_PAYLOAD_BYTES", 10)
    with pytest.raises(InvalidPackage, match="has 12 bytes; at most 10"):
        make_package(tmp_path / "large", {"a.joblib": b"x" * 6, "b.joblib": b"x" * 6})
    deep = "/".join(["d"] * 40) + "/model.joblib"
    with pytest.raises(InvalidPackage, match="nested deeper"):
        make_package(tmp_path / "deep", {deep: b"x"})


def test_an_existing_directory_is_not_overwritten(tmp_path, package):
    with pytest.raises(InvalidPackage, match="exists already"):
        build(tmp_path / "source", tmp_path / "package", format="sklearn")


@pytest.mark.parametrize("source", ["nowhere", "empty"])
def test_sources_without_a_model_are_refused(tmp_path, source):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidPackage, match=r"does not exist|empty is empty; name the folder"):
        build(tmp_path / source, tmp_path / "package")


def test_packages_are_not_packaged_again(tmp_path, package):
    with pytest.raises(InvalidPackage, match="is a package already; publish it"):
        build(tmp_path / "package", tmp_path / "again", format="sklearn")
    with pytest.raises(InvalidPackage, match="within the model's folder"):
        build(tmp_path / "source", tmp_path / "source" / "package", format="sklearn")
    assert not (tmp_path / "source" / "package").exists()


def test_models_that_are_too_large_are_refused_before_they_are_copied(tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.package.build._copy_file", None)
    with (tmp_path / "model.joblib").open("wb") as file:
        file.write(b"x")
        file.truncate(201 * 1024**3)
    with pytest.raises(InvalidPackage, match="at most 214748364800 are allowed"):
        build(tmp_path / "model.joblib", tmp_path / "package")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.joblib"]


def test_manifests_are_read_strictly(tmp_path, package):
    data = (tmp_path / "package" / "shoal-package.json").read_bytes()
    some = {"sha256": "0" * 64, "size": 1}
    document = json.loads(data)
    for change, problem in (
        ({"kind": "shoal.dev/package/v2"}, "kind"),
        ({"digest": "0" * 64}, "its content is not what its digest says"),
        ({"checksum": "0" * 64}, "its checksum is not that of its text"),
        ({"extra": 1}, "extra: unknown field"),
        ({"content": {**document["content"], "files": {}}}, "content.files"),
        (
            {"content": {**document["content"], "files": {"../up": some}}},
            "leaves its folder",
        ),
        (
            {
                "content": {
                    **document["content"],
                    "files": {"a": some, "a/b": some},
                }
            },
            "both a file and a folder",
        ),
        ({"about": {**document["about"], "created": "2026-01-01T00:00:00"}}, "needs a time zone"),
    ):
        with pytest.raises(Exception, match=problem):
            read_manifest(json.dumps(document | change).encode())
    with pytest.raises(Exception, match="not written as Shoal writes it"):
        read_manifest(json.dumps(document, indent=1).encode())
    assert read_manifest(data).digest == open_directory(tmp_path / "package").digest


def test_samples_are_part_of_the_content(tmp_path):
    more = samples_of([*SAMPLES, *SAMPLES])
    assert make_package(tmp_path / "a").digest != make_package(tmp_path / "b", samples=more).digest
    assert open_directory(tmp_path / "b" / "package").samples() == more


_BUILD = """
import pathlib, sys, time
import shoal.package.build as building
building._write_samples = lambda *_: (print("here", flush=True), time.sleep(600))
building.build(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), format="sklearn")
"""


@pytest.fixture
def slow_build(tmp_path):
    """Begins a build in a process of its own that does not come to its end; the process."""
    started = []
    (tmp_path / "model.joblib").write_bytes(pickle.dumps(1))

    def begin(output: Path) -> subprocess.Popen:
        command = [sys.executable, "-c", _BUILD, str(tmp_path / "model.joblib"), str(output)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "here\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def test_what_a_killed_build_left_is_removed_by_the_next_and_nothing_else(tmp_path, slow_build):
    packages = tmp_path / "packages"
    killed, going_on = slow_build(packages / "killed"), slow_build(packages / "slow")
    killed.kill()
    killed.wait(timeout=30)
    (packages / ".killed.mine").mkdir()
    (packages / ".shoal-12345678").mkdir()
    left = {path.name for path in packages.iterdir()}
    build(tmp_path / "model.joblib", packages / "next", format="sklearn")
    now = {path.name for path in packages.iterdir()}
    assert {name[:14] for name in left - now} == {".killed.shoal-"}
    assert now - left == {"next"}
    assert {name[:12] for name in now & left} == {".killed.mine", ".shoal-12345", ".slow.shoal-"}
    assert going_on.poll() is None
