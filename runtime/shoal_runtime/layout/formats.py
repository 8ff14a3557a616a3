"""What MLServer needs to know of each model format: the class that serves it and how its files are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shoal_runtime.errors import InvalidModelError


@dataclass(frozen=True, slots=True)
class Format:
    """One model format."""

    implementation: str
    """Import path of the class that serves it."""
    names: tuple[str, ...] = ()
    """File names the class looks for in a folder by itself."""
    suffixes: tuple[str, ...] = ()
    """How files of this format usually end."""
    folder: bool = False
    """Whether the class wants the folder rather than a file in it."""
    hub: bool = False
    """Whether the class can fetch a model from a hub by its name."""


FORMATS: Final[Mapping[str, Format]] = {
    "sklearn": Format(
        "mlserver_sklearn.SKLearnModel",
        ("model.joblib", "model.pickle", "model.pkl"),
        (".joblib", ".pickle", ".pkl"),
    ),
    "xgboost": Format(
        "mlserver_xgboost.XGBoostModel",
        ("model.bst", "model.json", "model.ubj"),
        (".ubj", ".bst", ".json", ".xgb", ".model"),
    ),
    "lightgbm": Format("mlserver_lightgbm.LightGBMModel", ("model.bst",), (".bst", ".txt", ".lgb", ".model")),
    "mlflow": Format("mlserver_mlflow.MLflowRuntime", folder=True),
    "huggingface": Format("mlserver_huggingface.HuggingFaceRuntime", folder=True, hub=True),
    "onnx": Format("shoal_runtime.mlserver.onnx.OnnxModel", ("model.onnx",), (".onnx",)),
    "mllib": Format("mlserver_mllib.MLlibModel", folder=True),
}
"""Formats whose class is known. For others the settings name one, or the server's own default is used."""


def artifact_in(path: Path, known: Format | None) -> Path:
    """The file (or folder) to load when the model's path is a folder.

    A well-known name wins, then the only file with a usual suffix, then the only file; else it is the folder.

    Raises:
        InvalidModelError: the folder is empty.
    """
    files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith((".", "_")))
    if not files and not any(path.iterdir()):
        raise InvalidModelError(f"the model's folder {path.name!r} is empty; put the model's files there")
    if known is None or known.folder:
        return path
    if any((path / name).is_file() for name in known.names):
        return path
    usual = [file for file in files if file.suffix in known.suffixes]
    if len(usual) == 1:
        return usual[0]
    only_file = len(files) == 1 and not any(entry.is_dir() for entry in path.iterdir())
    return files[0] if only_file else path
