"""Reading what MLflow saved, without MLflow: `MLmodel` says which flavours, signature and packages there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from shoal.oip.datatypes import OF_NUMPY
from shoal.package.errors import InvalidPackage
from shoal.package.formats import LIGHTGBM, MLFLOW, MLMODEL, ONNX, SKLEARN, XGBOOST, is_file_of
from shoal.package.manifest import Signature, TensorSpec
from shoal.package.names import file_path
from shoal.package.stores.local import open_plain

_MAX_BYTES: Final = 4 * 1024 * 1024
_FLAVOURS: Final[Mapping[str, tuple[str, str]]] = {
    "sklearn": (SKLEARN, "pickled_model"),
    "xgboost": (XGBOOST, "data"),
    "lightgbm": (LIGHTGBM, "data"),
    "onnx": (ONNX, "data"),
}
"""Flavours whose own file a model server loads faster than the whole directory: format, and the field that names it."""
_COLUMNS: Final[Mapping[str, str]] = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
_TENSORS: Final[Mapping[str, str]] = {**OF_NUMPY, "str": "BYTES", "object": "BYTES"}


@dataclass(frozen=True, slots=True)
class MlflowModel:
    """What an MLflow model directory holds."""

    format: str
    artifact: str | None
    """The one file that is the model in that format; None: the whole directory is."""
    signature: Signature | None
    environment: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None


def read_mlflow(directory: Path, wanted: str | None = None) -> MlflowModel:
    """What an `MLmodel` file says.

    Args:
        wanted: the format to package it as; `mlflow` takes the whole directory. Default: the flavour's own, else that.

    Raises:
        InvalidPackage: it is no MLflow model, or has no flavour of that format.
    """
    document = _mapping(_yaml(directory / MLMODEL), MLMODEL)
    flavours = _mapping(document.get("flavors"), f"{MLMODEL}: flavors")
    chosen, artifact = _flavour(directory, flavours, wanted)
    requirements = directory / "requirements.txt"
    environment = read_requirements(requirements) if requirements.is_file() else {}
    if document.get("mlflow_version"):
        environment["mlflow"] = str(document["mlflow_version"])
    run = document.get("run_id")
    # Columns are what MLflow's own server takes; the others take tensors.
    signature = _signature(document.get("signature"), columns=artifact is None)
    return MlflowModel(chosen, artifact, signature, environment, f"mlflow run {run}" if run else None)


def _flavour(directory: Path, flavours: Mapping[str, Any], wanted: str | None) -> tuple[str, str | None]:
    for name, (model_format, field_name) in _FLAVOURS.items():
        if name not in flavours or wanted not in (None, model_format):
            continue
        where = f"{MLMODEL}: flavors.{name}.{field_name}"
        file = _mapping(flavours[name], f"{MLMODEL}: flavors.{name}").get(field_name)
        if not isinstance(file, str):
            continue
        path = directory / file_path(file, where)
        if not path.exists():
            raise InvalidPackage(f"{where}: there is no {file}; copy all that MLflow saved to {directory}")
        if is_file_of(path, model_format):
            return model_format, file
        if wanted is not None:
            raise InvalidPackage(
                f"{where}: servers of {model_format} do not read {file}; leave out --format, then MLflow will"
            )
    if wanted in (None, MLFLOW):
        if "python_function" not in flavours:
            raise InvalidPackage(f"{MLMODEL} has no flavour that is served: {', '.join(flavours) or 'none'}")
        return MLFLOW, None
    raise InvalidPackage(f"{MLMODEL} has no flavour of format {wanted!r}, only {', '.join(flavours)}")


def _signature(given: Any, *, columns: bool) -> Signature | None:
    """None if there is none, or if it has types the inference protocol cannot express (nested objects)."""
    if not isinstance(given, Mapping) or not (columns or "tensor-spec" in str(given.get("inputs"))):
        return None
    inputs, outputs = _specs(given.get("inputs"), "input"), _specs(given.get("outputs"), "output")
    return Signature(inputs=inputs, outputs=outputs or []) if inputs else None


def _specs(given: Any, prefix: str) -> list[TensorSpec] | None:
    if not isinstance(given, str):
        return None
    try:
        columns = json.loads(given)
    except ValueError as error:
        raise InvalidPackage(f"{MLMODEL}: signature is not JSON: {error}") from None
    if not isinstance(columns, Sequence):
        return None
    specs = [_spec(column, f"{prefix}-{index}") for index, column in enumerate(columns)]
    known = [spec for spec in specs if spec is not None]
    return known if len(known) == len(specs) else None


def _spec(column: Any, unnamed: str) -> TensorSpec | None:
    if not isinstance(column, Mapping):
        return None
    name = str(column.get("name") or unnamed)
    tensor = column.get("tensor-spec")
    if not isinstance(tensor, Mapping):
        datatype = _COLUMNS.get(str(column.get("type")))
        return _made(name, datatype, [-1, 1])
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        return None
    return _made(name, _TENSORS.get(str(tensor.get("dtype"))), shape)


def _made(name: str, datatype: str | None, shape: list[int]) -> TensorSpec | None:
    if datatype is None:
        return None
    return TensorSpec.model_validate({"name": name, "datatype": datatype, "shape": shape})


def read_requirements(path: Path) -> dict[str, str]:
    """Packages and their versions, as `pip freeze` writes them; lines that pin none are left out.

    Raises:
        InvalidPackage: it cannot be read.
    """
    pinned = (line.split("#")[0].split(";")[0].strip() for line in _text(path).splitlines()[:4000])
    pairs = (line.partition("==") for line in pinned if "==" in line)
    return {name.strip(): version.strip() for name, _, version in pairs}


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidPackage(f"{path} is not YAML: {str(error).splitlines()[0]}") from None


def _text(path: Path) -> str:
    try:
        with open_plain(path) as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InvalidPackage(f"{path} is larger than {_MAX_BYTES} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPackage(f"{path} cannot be read: {error}") from None


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidPackage(f"{what} must be an object")
    return value
