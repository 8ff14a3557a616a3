"""Keeping every name that comes from outside below the folder it belongs to.

ModelMesh's puller silently bends `..` back into its root; here such a path is refused, so that the mistake is seen.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from shoal_runtime.storage.errors import ArtifactNotFoundError, InvalidStorageError
from shoal_runtime.storage.nearby import instead

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MODEL_NAME = "_model"
"""Local name of a model whose path is the whole store."""
SCHEMA_NAME = "_schema.json"
"""Local name of a schema whose own name is the model's."""


def folder_name(model_id: str) -> str:
    """The name of a model's folder: its id, percent-encoded where it is not a plain file name.

    Raises:
        InvalidStorageError: the id is empty or too long for a file name.
    """
    if not model_id or "\0" in model_id:
        raise InvalidStorageError("modelId is empty or holds a NUL character; give the model a name")
    try:
        name = quote(model_id, safe=" +,:;=@~")
    except UnicodeEncodeError:
        raise InvalidStorageError("modelId is not valid Unicode") from None
    if name[0] in "._":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > MAX_NAME_BYTES:
        raise InvalidStorageError(f"modelId needs {len(name)} bytes as a folder name; at most {MAX_NAME_BYTES} fit")
    return name


def model_id_of(folder: str) -> str:
    """The id whose `folder_name` is `folder`."""
    return unquote(folder)


def clean(path: str, field: str) -> str:
    """A path within a store without empty or `.` parts; "" is the whole store. `field` names it in errors.

    Raises:
        InvalidStorageError: it leaves the store by `..`, holds a NUL character, or is too long.
    """
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise InvalidStorageError(f"{field} is longer than {MAX_PATH_BYTES} bytes; shorten it")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise InvalidStorageError(f"{field} {path!r} must not contain '..' or NUL; name the path from the store's root")
    if any(len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in parts):
        raise InvalidStorageError(f"{field} has a part longer than {MAX_NAME_BYTES} bytes; shorten it")
    return "/".join(parts)


def local_names(model_path: str, schema_path: str | None) -> tuple[str, str | None]:
    """The names of model and schema in the model's folder, for cleaned paths (the puller's rule)."""
    model = model_path.rpartition("/")[2] or MODEL_NAME
    if schema_path is None:
        return model, None
    schema = schema_path.rpartition("/")[2]
    return model, SCHEMA_NAME if schema == model else schema


def confined(root: Path, path: str, what: str) -> Path:
    """The real place of `path` below `root`; links are followed and must end below `root`.

    Raises:
        ArtifactNotFoundError: nothing is there.
        InvalidStorageError: a link leads out of `root`, or in circles.
    """
    try:
        base = root.resolve(strict=True)
        real = (base / path).resolve(strict=True)
    except FileNotFoundError:
        fix = f"check the path and that the files were put there.{_instead(root.resolve(), path)}"
        raise ArtifactNotFoundError(f"{what} has no {path or '/'!r}; {fix}") from None
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "links lead in circles"
        raise InvalidStorageError(f"{what}: {path!r} cannot be read: {reason}") from None
    if not real.is_relative_to(base):
        raise InvalidStorageError(f"{what}: {path!r} leads out of it by a link; put the files inside")
    return real


def _instead(root: Path, path: str) -> str:
    """What is there in place of the first part of a path that is not."""
    place = root
    try:
        for part in path.split("/"):
            if not (place / part).exists():
                where = repr(str(place.relative_to(root))) if place != root else "It"
                return f" {instead(part, sorted(entry.name for entry in place.iterdir()), where)}"
            place = (place / part).resolve()
            if not place.is_relative_to(root):
                return ""
    except OSError:
        pass
    return ""


def walk_files(top: Path, max_files: int) -> Iterator[Path]:
    """Every file below `top` (or `top` itself), through links, each real folder once.

    Raises:
        InvalidStorageError: there are more than `max_files`.
    """
    if not top.is_dir():
        yield top
        return
    seen: set[str] = set()
    count = 0
    for folder, subfolders, names in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        count += len(names)
        if count + len(seen) > max_files:
            raise InvalidStorageError(f"the model has more than {max_files} files; point its path at one model")
        for name in names:
            yield Path(folder, name)


def tree_bytes(top: Path, max_files: int) -> int:
    """Size of all regular files below `top`, links followed."""
    return sum(file.stat().st_size for file in walk_files(top, max_files) if file.is_file())


def loose_bytes(top: Path) -> int:
    """Bytes of the files below `top` that are stored nowhere else: neither links nor linked."""
    files = (Path(folder, name).lstat() for folder, _, names in os.walk(top) for name in names)
    return sum(found.st_size for found in files if stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
