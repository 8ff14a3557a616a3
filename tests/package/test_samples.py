from __future__ import annotations

import json

import numpy as np
import pytest

from shoal.oip.tensors import flat
from shoal.package.errors import InvalidPackage
from shoal.package.samples import load_samples, parse_samples, samples_of
from support.package import SAMPLES

REQUEST = SAMPLES[0]["request"]


@pytest.mark.parametrize(
    "document", [{"samples": SAMPLES}, SAMPLES, SAMPLES[0], REQUEST, [REQUEST], {**REQUEST, "id": "7"}]
)
def test_samples_can_be_written_in_several_ways(document):
    (sample,) = parse_samples(json.dumps(document).encode(), "samples.json").samples
    assert sample.body() == {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.0]}]}


def test_an_answer_as_servers_give_it_is_an_expected_answer():
    answer = {"model_name": "m", "id": "1", "outputs": SAMPLES[0]["response"]["outputs"]}
    (sample,) = samples_of({"request": REQUEST, "response": answer}).samples
    assert sample.expected() == {"outputs": [{"name": "y", "datatype": "INT64", "shape": [1], "data": [1]}]}
    assert samples_of(REQUEST).samples[0].expected() is None


def test_samples_are_written_in_one_form():
    samples = samples_of(SAMPLES)
    assert parse_samples(samples.to_bytes(), "x") == samples
    assert parse_samples(samples.to_bytes(), "x").to_bytes() == samples.to_bytes()


def tensor(**changes):
    return {"inputs": [{**REQUEST["inputs"][0], **changes}]}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "holds no samples"),
        ("text", "holds no samples"),
        ([], "samples"),
        ({"inputs": []}, "at least 1 item"),
        (tensor(shape=[1, 3]), "2 elements of data do not fit shape"),
        (tensor(shape=[-1, 2]), "has no -1"),
        (tensor(datatype="FLOAT"), "datatype"),
        (tensor(datatype="INT8", data=[1, 200]), r"data\[1\] is no INT8"),
        (tensor(datatype="UINT8", data=[-1, 2]), r"data\[0\] is no UINT8"),
        (tensor(datatype="INT64", data=[1, 2.5]), r"data\[1\] is no INT64"),
        (tensor(datatype="BOOL", data=[True, 1]), r"data\[1\] is no BOOL"),
        (tensor(datatype="BYTES", data=["a", 1]), r"data\[1\] is no BYTES"),
        (tensor(data=[True, 1.0]), r"data\[0\] is no FP32"),
        (tensor(data=[1.0, 1e39]), r"data\[1\] is no FP32"),
        (tensor(datatype="FP64", data=[10**400, 1]), r"data\[0\] is no FP64"),
        (tensor(datatype="BF16"), "datatype"),
        ({"request": REQUEST, "respnse": {}}, "respnse: unknown field"),
        ({**REQUEST, "extra": 1}, "extra: unknown field"),
    ],
)
def test_wrong_samples_are_refused_by_their_field(document, problem):
    with pytest.raises(InvalidPackage, match=problem):
        parse_samples(json.dumps(document).encode(), "samples.json")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(InvalidPackage, match="is not JSON"):
        parse_samples(text if isinstance(text, bytes) else text.encode(), "samples.json")


def test_samples_come_from_numpy_files(tmp_path):
    path = tmp_path / "samples.npz"
    np.savez(
        path, **{"inputs.x": np.ones((2, 3), np.float32), "outputs.y": np.array([1, 2]), "outputs.z": np.array(["a"])}
    )
    (sample,) = load_samples(path).samples
    assert [(t.name, t.datatype, t.shape, len(t.data)) for t in sample.request.inputs] == [("x", "FP32", [2, 3], 6)]
    assert [(t.name, t.datatype, t.data) for t in sample.response.outputs] == [
        ("y", "INT64", [1, 2]),
        ("z", "BYTES", ["a"]),
    ]


def test_the_order_of_bytes_in_numpy_files_does_not_matter(tmp_path):
    path = tmp_path / "samples.npz"
    np.savez(path, **{"inputs.x": np.array([1.5, -2], ">f4")})
    (sample,) = load_samples(path).samples
    assert [(t.datatype, t.data) for t in sample.request.inputs] == [("FP32", [1.5, -2])]


def test_pickles_in_numpy_files_are_not_read(tmp_path):
    path = tmp_path / "samples.npz"
    np.savez(path, **{"inputs.x": np.array([{}], dtype=object)})
    with pytest.raises(InvalidPackage, match=r"no \.npz file of plain arrays"):
        load_samples(path)
    np.savez(path, x=np.ones(1))
    with pytest.raises(InvalidPackage, match=r"must be named inputs\.NAME"):
        load_samples(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InvalidPackage, match=r"no \.npz file"):
        load_samples(path)


def test_deep_lists_are_flattened_without_recursion():
    deep = [1]
    for _ in range(5000):
        deep = [deep, 2]
    assert len(list(flat(deep))) == 5001
    assert list(flat([[1, [2]], [], 3])) == [1, 2, 3]
