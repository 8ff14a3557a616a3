"""Lays a model out for MLServer: one folder per model with a generated `model-settings.json` and links to the files.

Two forms, as ModelMesh's MLServer adapter has them: a bare artifact, and a folder that brings its own
`model-settings.json` ("native"), whose `name` is replaced and whose `parameters.uri` is kept inside the folder.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from shoal_runtime.drivers.base import Artifact
from shoal_runtime.errors import InvalidModelError
from shoal_runtime.layout.formats import artifact_in
from shoal_runtime.layout.options import batching
from shoal_runtime.mlserver.folders import SETTINGS_FILE, folder_for, model_of
from shoal_runtime.servers import Format
from shoal_runtime.servers.mlserver import FORMATS

MAX_JSON_BYTES: Final = 4 * 1024 * 1024
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


class MLServerLayout:
    """The folder MLServer is started with (`MLSERVER_MODELS_DIR`), which belongs to this adapter alone."""

    def __init__(self, root: Path, *, allow_hub: bool = False) -> None:
        self._root = root
        self._allow_hub = allow_hub

    def place(self, artifact: Artifact) -> str | None:
        """Writes the model's folder, replacing one that is there. A failed attempt leaves nothing.

        Returns the import path of the class that serves it; None: the server's default does, if it has one.

        Raises:
            InvalidModelError: settings, schema or options cannot be used; the message names the field.
        """
        folder = self._root / folder_for(artifact.model_id)
        self.remove(artifact.model_id)
        folder.mkdir(parents=True)
        try:
            settings = self._settings(artifact, folder)
            settings.update(batching(artifact.options))
            if implementation := artifact.options.get("implementation"):
                settings["implementation"] = implementation
            if artifact.schema_path is not None:
                settings.update(_schema(artifact.schema_path))
            (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=1))
            implementation = settings.get("implementation")
            return None if implementation is None else str(implementation)
        except BaseException:
            self.remove(artifact.model_id)
            raise

    def remove(self, model_id: str) -> None:
        """Removes the model's folder, if there is one; never what its links point to."""
        _remove(self._root / folder_for(model_id))

    def present(self) -> frozenset[str]:
        """Models whose folder is complete enough to be loaded."""
        if not self._root.is_dir():
            return frozenset()
        return frozenset(model_of(e.name) for e in self._root.iterdir() if (e / SETTINGS_FILE).is_file())

    def tidy(self, keep: frozenset[str]) -> None:
        """Removes every folder but those of `keep`, and makes sure that the root exists."""
        self._root.mkdir(parents=True, exist_ok=True)
        names = {folder_for(model_id) for model_id in keep}
        for entry in self._root.iterdir():
            if entry.name not in names:
                _remove(entry)

    def _settings(self, artifact: Artifact, folder: Path) -> dict[str, Any]:
        path, known = artifact.path, FORMATS.get(artifact.format)
        if path.is_dir() and (path / SETTINGS_FILE).is_file():
            return self._native(artifact, folder, known)
        link = folder / (f"_{path.name}" if path.name == SETTINGS_FILE else path.name)
        link.symlink_to(path)
        target = link
        if path.is_dir():
            found = artifact_in(path, known)
            target = link if found == path else link / found.name
        if known is not None and known.folder:
            target = path.resolve()
        settings: dict[str, Any] = {"name": artifact.model_id, "parameters": {"uri": str(target)}}
        if known is not None:
            settings["implementation"] = known.implementation
        return settings

    def _native(self, artifact: Artifact, folder: Path, known: Format | None) -> dict[str, Any]:
        settings = _read_object(artifact.path / SETTINGS_FILE)
        for entry in artifact.path.iterdir():
            if entry.name != SETTINGS_FILE:
                (folder / entry.name).symlink_to(entry)
        settings["name"] = artifact.model_id
        parameters = settings.setdefault("parameters", {})
        if parameters is None:
            parameters = settings["parameters"] = {}
        if not isinstance(parameters, dict):
            raise InvalidModelError(f"{SETTINGS_FILE}: parameters must be an object, not {type(parameters).__name__}")
        if "implementation" not in settings and known is not None:
            settings["implementation"] = known.implementation
        implementation = str(settings.get("implementation", ""))
        uri = self._uri(parameters.get("uri"), folder, implementation)
        if any(known.folder and known.implementation == implementation for known in FORMATS.values()):
            uri = _followed(uri, folder, artifact.path)
        parameters["uri"] = uri
        return settings

    def _uri(self, uri: Any, folder: Path, implementation: str) -> str:
        """The place `parameters.uri` names, which must be in the model's folder.

        Upstream bends every uri into the folder, also remote ones; here what cannot be meant is refused.
        """
        if uri is None or uri == "":
            return str(folder)
        if not isinstance(uri, str):
            raise InvalidModelError(f"{SETTINGS_FILE}: parameters.uri must be a string, not {type(uri).__name__}")
        relative = uri.removeprefix("file://").removeprefix("/")
        parts = [part for part in relative.split("/") if part not in ("", ".")]
        if ".." not in parts and (folder.joinpath(*parts)).exists():
            return str(folder.joinpath(*parts))
        hub = any(known.hub and known.implementation == implementation for known in FORMATS.values())
        if hub and self._allow_hub and _HUB_NAME.fullmatch(uri):
            return uri
        fix = "set ALLOW_HUB_MODELS=true on the runtime or put the files there" if hub else "put the files there"
        raise InvalidModelError(f"{SETTINGS_FILE}: parameters.uri {uri!r} is not in the model's own folder; {fix}")


def _followed(uri: str, folder: Path, source: Path) -> str:
    """A model's place without links, for MLflow, which refuses links that lead out of the folder they are in."""
    if uri == str(folder):
        return str(source.resolve())
    return str(Path(uri).resolve()) if Path(uri).exists() else uri


def _schema(path: Path) -> Mapping[str, Any]:
    """`inputs` and `outputs` of a schema file, each only if it is there; they replace those of the settings."""
    schema, replaced = _read_object(path), {}
    for name in ("inputs", "outputs"):
        tensors = schema.get(name)
        if tensors is None:
            continue
        if not isinstance(tensors, list):
            raise InvalidModelError(f"schema: {name} must be a list of tensors, not {type(tensors).__name__}")
        for index, tensor in enumerate(tensors):
            _check_tensor(tensor, f"schema: {name}[{index}]")
        replaced[name] = tensors
    return replaced


def _check_tensor(tensor: Any, where: str) -> None:
    if not isinstance(tensor, dict):
        raise InvalidModelError(f"{where} must be an object with name, datatype and shape")
    for field in ("name", "datatype"):
        if not isinstance(tensor.get(field), str):
            raise InvalidModelError(f"{where}.{field} must be a string")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or any(isinstance(d, bool) or not isinstance(d, int) for d in shape):
        raise InvalidModelError(f"{where}.shape must be a list of whole numbers, -1 for any")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InvalidModelError(f"{path.name} is larger than {MAX_JSON_BYTES} bytes")
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidModelError(f"{path.name} is not JSON: {error}") from None
    except OSError as error:
        raise InvalidModelError(f"{path.name} cannot be read: {error.strerror}") from None
    if not isinstance(document, dict):
        raise InvalidModelError(f"{path.name} must hold a JSON object, not {type(document).__name__}")
    return document


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
