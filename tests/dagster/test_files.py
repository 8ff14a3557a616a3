"""Datasets and drafts as files, golden sets and signatures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dagster_shoal.datafiles import fingerprint, load_dataset, save_dataset
from dagster_shoal.drafts import KEEP, DraftMissingError, Drafts
from dagster_shoal.model import Dataset, Rows
from dagster_shoal.samples import golden_set, signature_of
from dagster_shoal.verdicts import judged
from support.dagster import load


def test_a_dataset_comes_back_as_it_was(tmp_path: Path):
    words = Rows({"x": np.array(["a", "bc"]), "a/b": np.array([[True], [False]])}, np.array([0.5, 1.5]))
    save_dataset(Dataset(words, words), tmp_path / "d.npz")
    found = load_dataset(tmp_path / "d.npz")
    assert set(found.train.inputs) == {"x", "a/b"}
    assert found.test.inputs["x"].tolist() == ["a", "bc"]
    assert found.train.target.tolist() == [0.5, 1.5]
    assert fingerprint(found) == fingerprint(Dataset(words, words))


def test_python_objects_are_refused_since_they_would_be_pickled(tmp_path: Path):
    rows = Rows({"x": np.array([{}, []], dtype=object)}, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"train/inputs/x.* convert it"):
        save_dataset(Dataset(rows, rows), tmp_path / "d.npz")


def test_a_fingerprint_changes_with_values_types_and_parts():
    data = load()
    other = dataclasses.replace(data, test=data.test.head(5))
    wider = Dataset(Rows({"points": data.train.inputs["points"].astype(np.float64)}, data.train.target), data.test)
    assert len({fingerprint(data), fingerprint(other), fingerprint(wider)}) == 3


def test_the_same_data_is_kept_once_and_old_ones_go(tmp_path: Path):
    drafts = Drafts(tmp_path, "m")
    assert drafts.add_data(load()).id == drafts.add_data(load()).id
    ids = [drafts.add_data(Dataset(Rows({"x": np.array([n])}, np.array([n])), load().test)).id for n in range(KEEP + 2)]
    assert len(list((tmp_path / "m" / "data").iterdir())) == KEEP
    assert drafts.data(ids[-1]).id == ids[-1]


def test_what_is_gone_says_which_asset_makes_it_again(tmp_path: Path):
    drafts = Drafts(tmp_path, "m")
    with pytest.raises(DraftMissingError, match="materialize trained_model again"):
        drafts.draft("0123")
    with pytest.raises(DraftMissingError, match="materialize training_data again"):
        drafts.data("")


def test_verdicts_are_kept_by_gate_and_the_newest_counts(tmp_path: Path):
    draft = Drafts(tmp_path, "m").new("run1")
    assert draft.verdict("scan") is None
    draft.record(judged("scan", ["bad"], "fine"))
    draft.record(judged("scan", [], "fine"))
    found = draft.verdict("scan")
    assert found is not None
    assert (found.passed, found.summary) == (True, "fine")


def test_a_new_draft_forgets_verdicts_about_the_model_before(tmp_path: Path):
    drafts = Drafts(tmp_path, "m")
    drafts.new("run1").record(judged("scan", [], "fine"))
    assert drafts.new("run1").verdict("scan") is None


def test_signature_and_golden_set():
    inputs = {"x": np.array([[1.5, 2], [3, 4]], np.float32), "s": np.array(["a", "b"])}
    outputs = {"y": np.array([[1], [0]])}
    signature = signature_of(inputs, outputs)
    assert [(t.name, t.datatype, t.shape) for t in signature.inputs] == [("x", "FP32", [-1, 2]), ("s", "BYTES", [-1])]
    golden = golden_set(inputs, outputs)
    assert len(golden.samples) == 2
    assert golden.samples[1].body()["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [3, 4]}
    assert golden.samples[1].expected() == {
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [1, 1], "data": [0]}]
    }


def test_types_the_protocol_does_not_know_are_named():
    with pytest.raises(ValueError, match="when: arrays of datetime64"):
        signature_of({"when": np.array(["2026-01-01"], "datetime64[D]")}, {})
