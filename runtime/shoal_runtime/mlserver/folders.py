"""Where a model's `model-settings.json` is below MLServer's root: agreed between driver and repository class."""

from __future__ import annotations

from urllib.parse import quote, unquote

SETTINGS_FILE = "model-settings.json"


def folder_for(model_id: str) -> str:
    """The folder's name: the id itself unless it is no plain file name, then percent-encoded."""
    name = quote(model_id, safe=" +,:;=@~")
    return f"%{ord(name[0]):02X}{name[1:]}" if name[:1] in (".", "_") else name


def model_of(folder: str) -> str:
    """The id whose folder this is."""
    return unquote(folder)
