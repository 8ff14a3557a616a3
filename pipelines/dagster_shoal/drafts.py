"""Models between training and publishing: files in a work folder, one folder for a dataset, one for a trained model.

Nothing in them is written twice by different runs: a dataset's folder is named by its content, a trained model's by the
run that trained it. Old ones are removed when new ones are made.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dagster_shoal.datafiles import fingerprint, load_dataset, save_dataset
from dagster_shoal.model import Dataset
from dagster_shoal.verdicts import GateVerdict

DATA_FILE = "data.npz"
"""Of a dataset, in its folder."""
KEEP = 5
"""Datasets, and trained models, that are kept of each model."""


class DraftMissingError(Exception):
    """What an earlier step made is not there (any more)."""


@dataclass(frozen=True)
class Folder:
    """A folder with results of gates in it."""

    path: Path

    @property
    def id(self) -> str:
        """Its name."""
        return self.path.name

    def record(self, verdict: GateVerdict) -> None:
        """Keep the result of a gate, in place of an older one, as a whole or not at all."""
        results = self.path / "results"
        results.mkdir(exist_ok=True)
        fresh = results / f".{verdict.gate}.{os.getpid()}"
        fresh.write_text(verdict.model_dump_json(indent=1))
        fresh.replace(results / f"{verdict.gate}.json")

    def verdict(self, gate: str) -> GateVerdict | None:
        """The result of a gate; None if it did not run."""
        try:
            return GateVerdict.model_validate_json((self.path / "results" / f"{gate}.json").read_text())
        except FileNotFoundError:
            return None


class PackageDraft(Folder):
    """A trained model."""

    @property
    def payload(self) -> Path:
        """The files its model server loads."""
        return self.path / "model"

    @property
    def package(self) -> Path:
        """Where its package is built."""
        return self.path / "package"


class Drafts:
    """All of one model."""

    def __init__(self, work: Path, model: str) -> None:
        """`work`: the folder of all models."""
        self._root = work / model

    def add_data(self, data: Dataset) -> Folder:
        """Keep a dataset; the folder is named by its content."""
        folder = self._root / "data" / fingerprint(data)[:16]
        if not (folder / DATA_FILE).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            fresh = folder / f".{os.getpid()}.npz"
            save_dataset(data, fresh)
            fresh.replace(folder / DATA_FILE)
        os.utime(folder)
        _prune(folder.parent, keep=folder.name)
        return Folder(folder)

    def data(self, folder_id: str) -> Folder:
        """The folder of a dataset.

        Raises:
            DraftMissingError: it is not there (any more).
        """
        return Folder(self._existing("data", folder_id, "training_data"))

    def load_data(self, folder_id: str) -> Dataset:
        """A dataset. Raises as `data` does."""
        return load_dataset(self.data(folder_id).path / DATA_FILE)

    def new(self, draft_id: str) -> PackageDraft:
        """An empty draft."""
        folder = self._root / "drafts" / draft_id
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "model").mkdir(parents=True)
        _prune(folder.parent, keep=folder.name)
        return PackageDraft(folder)

    def draft(self, draft_id: str) -> PackageDraft:
        """A trained model.

        Raises:
            DraftMissingError: it is not there (any more).
        """
        return PackageDraft(self._existing("drafts", draft_id, "trained_model"))

    def _existing(self, kind: str, name: str, asset: str) -> Path:
        folder = self._root / kind / name
        if not name or not folder.is_dir():
            raise DraftMissingError(f"{folder} is not there any more; materialize {asset} again")
        return folder


def _prune(folder: Path, *, keep: str) -> None:
    others = sorted((f for f in folder.iterdir() if f.name != keep), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in others[KEEP - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
