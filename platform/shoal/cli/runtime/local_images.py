"""Images of the embedded cluster: a copy of a folder and how to run it, found by pods under the image's name.

The same conventions as an image made by `mlserver build`: the folder is on Python's path, and `settings.json` and
`model-settings.json` in it are defaults for the server and for every model. Two fields are left out, because as
defaults they would break every other model: a model's `name` and `parameters.uri`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shoal.cli.errors import CliError, UsageProblem
from shoal_runtime.servers.mlserver import MODELS_FOLDER, SERVER

CONVENTIONS = {
    "MLSERVER_MODELS_DIR": f"/models/{MODELS_FOLDER}",
    "MLSERVER_GRPC_PORT": "8001",
    "MLSERVER_HTTP_PORT": "8002",
    "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
}
"""What a ModelMesh runtime image of MLServer has in its environment."""
MAX_FILES = 10_000
_SKIPPED = (".git", ".venv", "__pycache__", "*.pyc", ".metrics", ".envs", ".cache", ".mypy_cache")


def register(images: Path, name: str, folder: Path) -> Path:
    """Make `folder` the image `name` below the folder `images`: its `image.json`. Running pods keep what they run.

    Raises:
        UsageProblem: a settings file cannot be read, or the folder has too many files.
        CliError: the files cannot be copied.
    """
    env = environment(folder)
    if sum(len(names) for _, _, names in os.walk(folder)) > MAX_FILES:
        raise UsageProblem(f"{folder} has more than {MAX_FILES} files; name the folder of one runtime")
    image = images / name
    version = image / uuid.uuid4().hex[:12]
    description = image / "image.json"
    try:
        before = json.loads(description.read_text())["workdir"] if description.exists() else None
        image.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, version, ignore=shutil.ignore_patterns(*_SKIPPED))
        document = {"command": SERVER.command, "env": {**env, "PYTHONPATH": str(version)}, "workdir": str(version)}
        draft = image / "image.json.new"
        draft.write_text(json.dumps(document, indent=2))
        draft.replace(description)
        kept = {before, str(version), *_in_use()}
        for old in image.iterdir():
            if old.is_dir() and str(old) not in kept:
                shutil.rmtree(old)
    except (OSError, shutil.Error, ValueError, KeyError) as error:
        raise CliError(f"the local image {name!r} cannot be written below {image}: {error}") from error
    return description


def _in_use() -> set[str]:
    """Where processes of this user work: a pod may run what was built several times ago."""
    found = set()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            found.add(str((process / "cwd").readlink()))
    return found


def environment(folder: Path) -> dict[str, str]:
    """The environment of an image made from `folder`.

    Raises:
        UsageProblem: a settings file is not a JSON object.
    """
    model = _read(folder / "model-settings.json")
    parameters = model.pop("parameters", None) or {}
    if not isinstance(parameters, dict):
        raise UsageProblem(f"{folder / 'model-settings.json'}: parameters must be an object")
    model.pop("name", None)
    parameters.pop("uri", None)
    server = _variables("MLSERVER_", _read(folder / "settings.json"))
    return CONVENTIONS | server | _variables("MLSERVER_MODEL_", {**parameters, **model})


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageProblem(f"{file} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise UsageProblem(f"{file} must be a JSON object")
    return document


def _variables(prefix: str, document: Mapping[str, Any]) -> dict[str, str]:
    return {
        prefix + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in document.items()
        if value is not None
    }
