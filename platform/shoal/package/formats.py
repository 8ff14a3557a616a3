"""Which format a model file is in, told by its name and first bytes, and what it is called within a package.

Names are made uniform where model servers look for well-known ones, so that the same bytes make the same package
however the file was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shoal.package.errors import InvalidPackage
from shoal.package.stores.local import open_plain
from shoal_runtime.servers import ModelServer, formats, servers

SKLEARN, XGBOOST, LIGHTGBM, ONNX, MLFLOW, HUGGINGFACE = (
    "sklearn",
    "xgboost",
    "lightgbm",
    "onnx",
    "mlflow",
    "huggingface",
)
MLMODEL: Final = "MLmodel"
_LOOK_BYTES: Final = 4096
_FIX: Final = "name it by --format"


def format_of(source: Path) -> str:
    """The format of a model file, or of a folder with a model.

    Raises:
        InvalidPackage: it cannot be told; the message says how to name it.
    """
    if not source.is_dir():
        return _format_of_file(source)
    if (source / MLMODEL).is_file():
        return MLFLOW
    for server in servers().values():
        if server.settings_file and (source / server.settings_file).is_file():
            return _native(source / server.settings_file, server)
    if (source / "config.json").is_file():
        return HUGGINGFACE
    if not any(source.iterdir()):
        raise InvalidPackage(f"{source} is empty; name the folder or file that training wrote")
    files = [entry for entry in source.iterdir() if entry.is_file()]
    if len(files) == 1 and len(list(source.iterdir())) == 1:
        return _format_of_file(files[0])
    known = ", ".join([MLMODEL, *(server.settings_file for server in servers().values() if server.settings_file)])
    raise InvalidPackage(f"{source} is no folder of one known format (no {known} or single model file); {_FIX}")


def is_file_of(path: Path, model_format: str) -> bool:
    """Whether a file is in this format, by its name: other tools' files of such models are not for its server."""
    known = formats().get(model_format)
    return known is not None and path.suffix in known.suffixes


def uniform_name(path: Path) -> str:
    """What a single model file is called in a package: `model` and its suffix."""
    return f"model{path.suffix}" if path.suffix in _suffixes() else path.name


def _format_of_file(path: Path) -> str:
    found = _suffixes().get(path.suffix)
    if found is None:
        known = ", ".join(_suffixes())
        raise InvalidPackage(f"the format of {path.name} cannot be told by its name (known: {known}); {_FIX}")
    try:
        with open_plain(path) as file:
            head = file.read(_LOOK_BYTES)
    except OSError as error:
        raise InvalidPackage(f"{path} cannot be read: {error.strerror}") from None
    if not head:
        raise InvalidPackage(f"{path} is empty")
    is_lightgbm = head.startswith(b"tree")
    if path.suffix == ".bst" and is_lightgbm:
        return LIGHTGBM
    if path.suffix == ".txt" and not is_lightgbm:
        raise InvalidPackage(f"{path.name} is not a model that LightGBM saved; {_FIX}")
    if path.suffix == ".ubj" and not (head.startswith(b"{") and b"learner" in head):
        raise InvalidPackage(f"{path.name} is not a model that XGBoost saved; {_FIX}")
    if path.suffix == ".json" and b'"learner"' not in head and b'"version"' not in head:
        raise InvalidPackage(f"{path.name} is not a model that XGBoost saved; {_FIX}")
    return found


def _suffixes() -> Mapping[str, str]:
    """The format that a file's ending tells: the first that has it, until one looks into the file."""
    found: dict[str, str] = {}
    for name, known in formats().items():
        for suffix in known.suffixes:
            found.setdefault(suffix, name)
    return found


def _native(path: Path, server: ModelServer) -> str:
    try:
        implementation = server.implementation_in(path.read_bytes())
    except (ValueError, OSError) as error:
        raise InvalidPackage(f"{path} cannot be read: {error}") from None
    for name, known in server.formats.items():
        if known.implementation == implementation:
            return name
    raise InvalidPackage(f"{path}: implementation {implementation!r} is none whose format is known; {_FIX}")
