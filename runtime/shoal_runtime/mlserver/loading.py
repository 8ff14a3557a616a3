"""Why a model does not load, in words for the person who uploaded it: the file, what the library said, and the fix."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, NamedTuple

from mlserver.errors import MLServerError
from mlserver.model import MLModel

from shoal_runtime.mlserver.faults import told

_INTERNAL: Final = 500


class _Library(NamedTuple):
    package: str
    fix: str
    """How such a file is written."""


_LIBRARIES: Final = {
    "mlserver_sklearn.": _Library("scikit-learn", "it is no file of joblib or pickle; write it with joblib.dump"),
    "mlserver_xgboost.": _Library("xgboost", "it is no model of XGBoost; write it as .ubj or .json with save_model"),
    "mlserver_lightgbm.": _Library("lightgbm", "it is no model of LightGBM; write it with Booster.save_model"),
    "mlserver_mlflow.": _Library("mlflow", "storage.path must be the folder that mlflow's save_model wrote"),
    "shoal_runtime.mlserver.onnx.": _Library("onnxruntime", "it is no model of ONNX; export it again"),
}
_BEGINNINGS: Final = {
    b"version https://git-lfs": "it is a pointer of Git LFS, not the model; run `git lfs pull` and upload the model",
    b"<": "it is a web page or XML, not a model; look at what the address or the upload really gave",
    b"PK\x03\x04": "it is a zip archive; unpack it",
}
_SNIFFED_BYTES: Final = 64
_CUT_SHORT: Final = re.compile(r"EOF|truncated|Ran out of (input|data)|end of file|pickle exhausted", re.IGNORECASE)
_NOT_THERE: Final = re.compile(r"Can't get attribute '([^']*)' on <module '([^']*)'")
_STACK: Final = re.compile(r"\s*Stack trace:.*", re.DOTALL)
_PLACE_IN_SOURCE: Final = re.compile(r"^\[[\d:]+\] \S+:\d+: ")
"""How XGBoost begins a message: the time, and a line of its source."""
_PLACE_ON_DISK: Final = re.compile(r" from '/[^']*'>")
"""Where a module is, as Python shows it."""
_VERBS: Final = ("predict", "predict_proba", "transform")


def explained(model: MLModel, error: Exception) -> MLServerError | None:
    """What to raise in place of the error of a load; None: the error itself, as custom classes raise it."""
    library = _library_of(model)
    if library is None:
        return None
    path = _path(model)
    words = _without_folder(_words(error), path)
    status = error.status_code if isinstance(error, MLServerError) else _INTERNAL
    return MLServerError(f"{_name(model)} does not load: {words}; {_fix(library, path, error)}", status)


def check_loaded(model: MLModel) -> None:
    """Refuses what was read well but is no model.

    Raises:
        MLServerError: it has no method that MLServer's runtime for scikit-learn calls.
    """
    if not type(model).__module__.startswith("mlserver_sklearn"):
        return
    held = getattr(model, "_model", None)
    if not any(hasattr(held, verb) for verb in _VERBS):
        raise MLServerError(
            f"{_name(model)} holds an object of type {type(held).__name__}, which has none of "
            f"{', '.join(_VERBS)}; save the fitted estimator itself",
            _INTERNAL,
        )


def _fix(library: _Library, path: Path | None, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "the model server has too little memory for it; give the runtime more"
    if isinstance(error, ModuleNotFoundError):
        return _missing_module(library, str(error.name))
    if found := _NOT_THERE.search(str(error)):
        return _missing_class(library, found[1], found[2])
    if path is None:
        return library.fix
    if isinstance(error, PermissionError):
        return "the model server may not read it; allow that with chmod"
    if path.is_dir():
        return f"{library.fix}; where a folder has several files, storage.path must name the one"
    return _by_content(path) or (_cut_short(error) or library.fix)


def _by_content(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            beginning = stream.read(_SNIFFED_BYTES)
    except OSError:
        return None
    if not beginning:
        return "the file is empty; upload it again"
    return next((fix for start, fix in _BEGINNINGS.items() if beginning.lstrip().startswith(start)), None)


def _cut_short(error: Exception) -> str | None:
    if isinstance(error, EOFError) or _CUT_SHORT.search(str(error)):
        return "the file ends early; upload it again, whole"
    return None


def _missing_module(library: _Library, name: str) -> str:
    if name.partition(".")[0] in (library.package, "sklearn", "numpy"):
        return _other_version(library)
    return f"install the module {name!r} in the runtime's environment, or save the model without it"


def _missing_class(library: _Library, name: str, module: str) -> str:
    if module.endswith("__main__"):
        return f"{name!r} was defined in the script that saved the model; move it to a module that the runtime has"
    if module.partition(".")[0] in (library.package, "sklearn", "numpy"):
        return _other_version(library)
    return f"the runtime's {module!r} has no {name!r}; install the version that the model was saved with"


def _other_version(library: _Library) -> str:
    try:
        own = version(library.package)
    except PackageNotFoundError:
        own = "none"
    return f"it was saved with another version of {library.package} than the runtime's, {own}; save it with that one"


def _library_of(model: MLModel) -> _Library | None:
    module = f"{type(model).__module__}."
    return next((library for start, library in _LIBRARIES.items() if module.startswith(start)), None)


def _path(model: MLModel) -> Path | None:
    parameters: Any = model.settings.parameters
    return Path(parameters.uri) if parameters is not None and parameters.uri else None


def _name(model: MLModel) -> str:
    path = _path(model)
    return repr(path.name if path else model.name)


def _words(error: Exception) -> str:
    lines = _PLACE_ON_DISK.sub(">", _PLACE_IN_SOURCE.sub("", _STACK.sub("", str(error))))
    if isinstance(error, MLServerError) and lines:
        return lines
    return f"{type(error).__name__}: {lines}" if lines else told(error)


def _without_folder(words: str, path: Path | None) -> str:
    """Folders of the pod tell a user nothing."""
    return words if path is None else words.replace(f"{path.parent}/", "").rstrip(".")
