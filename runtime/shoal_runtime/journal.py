"""What an adapter must know after its own restart: which server it filled, and with what. One small file per model."""

from __future__ import annotations

import json
import logging
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shoal_runtime.mlserver.folders import folder_for

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One loaded model."""

    model_id: str
    size_bytes: int
    disk_bytes: int
    format: str


class Journal:
    """Files below `<root>/_shoal`. A damaged file counts as absent: the model is then loaded anew when needed."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "_shoal"
        self._models = self._folder / "models"
        self._models.mkdir(parents=True, exist_ok=True)

    def note(self, entry: JournalEntry) -> None:
        """The model is loaded. On a full disk it is not noted: it serves, and is loaded anew after a restart."""
        try:
            write_document(self._models / f"{folder_for(entry.model_id)}.json", asdict(entry))
        except OSError as error:
            log.warning("%s is loaded and cannot be noted: %s", entry.model_id, error)

    def strike(self, model_id: str) -> None:
        """The model is not loaded any more."""
        (self._models / f"{folder_for(model_id)}.json").unlink(missing_ok=True)

    def entries(self) -> dict[str, JournalEntry]:
        """Everything noted and not struck."""
        found = {}
        for path in self._models.iterdir():
            try:
                entry = JournalEntry(**read_document(path))
            except TypeError:
                path.unlink(missing_ok=True)
                continue
            found[entry.model_id] = entry
        return found

    def incarnation(self, server: str | None, *, same: bool) -> str:
        """The name of this life of the model server. `server` names its process, if known.

        It is kept if the process is the one noted before, or, where processes cannot be seen, if the caller found by
        other means that it is the `same`; else there is a new one.
        """
        path = self._folder / "server.json"
        noted = read_document(path)
        name = noted.get("incarnation")
        if isinstance(name, str) and (server == noted.get("server") if server is not None else same):
            return name
        name = uuid.uuid4().hex
        write_document(path, {"incarnation": name, "server": server})
        return name


def read_document(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a file that is absent or damaged counts as an empty one."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Replaces the file whole. Not synced: after a crash of the machine the model server is gone as well."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}~")
    try:
        temporary.write_text(json.dumps(document))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
