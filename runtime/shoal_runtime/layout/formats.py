"""Which file of a model's folder is the model."""

from __future__ import annotations

from pathlib import Path

from shoal_runtime.errors import InvalidModelError
from shoal_runtime.servers import Format


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
    usual = [file for file in files if file.suffix in (*known.suffixes, *known.other_suffixes)]
    if len(usual) == 1:
        return usual[0]
    only_file = len(files) == 1 and not any(entry.is_dir() for entry in path.iterdir())
    return files[0] if only_file else path
