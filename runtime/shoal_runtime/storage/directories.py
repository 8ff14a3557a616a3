"""Models that already are on a file system, in a claim (`pvc`) or a directory (`local`): linked, never copied."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shoal_runtime.storage.config import StorageConfig
from shoal_runtime.storage.errors import ArtifactNotFoundError
from shoal_runtime.storage.paths import confined, walk_files
from shoal_runtime.storage.settings import StorageSettings

_CLAIM = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that holds models, and how errors name it."""

    root: Path
    what: str

    def link(self, folder: Path, paths: Mapping[str, str], max_files: int) -> None:
        """Make a link in `folder` for each name of `paths`, to the cleaned path; see `find`."""
        for name, path in paths.items():
            (folder / name).symlink_to(self.find(path, max_files))

    def find(self, path: str, max_files: int) -> Path:
        """The real place of a cleaned path, all of whose files are within the directory.

        Raises:
            ArtifactNotFoundError: nothing is there.
            InvalidStorageError: a link leads out, or there are too many files.
        """
        target = confined(self.root, path, self.what)
        base = self.root.resolve()
        if target.is_dir():
            for file in walk_files(target, max_files):
                if not file.resolve().is_relative_to(base):
                    confined(base, str(file.relative_to(base)), self.what)
        return target


def open_directory(config: StorageConfig, settings: StorageSettings) -> Directory:
    """The directory a `pvc` or `local` configuration names.

    Raises:
        ArtifactNotFoundError: it is not there.
        InvalidStorageError: a field is missing or malformed.
    """
    if config.type == "pvc":
        name = config.required("name")
        if not _CLAIM.fullmatch(name):
            raise config.wrong("name", "is not the name of a persistent volume claim")
        directory = Directory(settings.pvc_dir / name, f"persistent volume claim {name!r}")
        fix = "create the claim in this namespace and wait until the pod has mounted it"
    else:
        path = Path(config.required("path"))
        if not path.is_absolute():
            raise config.wrong("path", "must be absolute")
        directory = Directory(path, f"local directory {str(path)!r}")
        fix = "create it on every machine that runs pods"
    if not directory.root.is_dir():
        raise ArtifactNotFoundError(f"{directory.what} is not there; {fix}")
    return directory
