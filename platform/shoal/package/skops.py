"""What a skops file would import when it is loaded: the names in its `schema.json`.

skops compares these names with a list of types to trust. MLflow takes that list from the model itself, so it protects
nobody; here the names are held against the same allowlist as those of pickles.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO, Final

from shoal.package.containers import UnreadableFile
from shoal.package.pickles import Global, Walk

SCHEMA: Final = "schema.json"
_MAX_BYTES: Final = 256 * 1024 * 1024
_LOADER: Final = "__loader__"
_NOT_CALLED: Final = frozenset({"ObjectNode", "TypeNode", "FunctionNode"})
"""Loaders that make an object without calling its class, or nothing at all."""


def follow_schema(file: BinaryIO) -> Walk | None:
    """The names in a `schema.json`; None if it is no schema of skops.

    Raises:
        UnreadableFile: it cannot be followed.
    """
    data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise UnreadableFile(f"it is larger than {_MAX_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None  # Nor can skops read it.
    if not isinstance(document, dict) or _LOADER not in document:
        return None
    found = Walk()
    waiting: list[Any] = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, dict):
            waiting.extend(node.values())
            _names_of(node, found)
    return found


def _names_of(node: dict[str, Any], found: Walk) -> None:
    pairs = [
        (node["__module__"], node["__class__"]) if {"__module__", "__class__"} <= node.keys() else None,
        (node["module_path"], node["function"]) if {"module_path", "function"} <= node.keys() else None,
    ]
    if _LOADER in node and pairs[0] is None:
        raise UnreadableFile("a part of its schema names no class")
    for pair in pairs:
        if pair is None:
            continue
        module, name = pair
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnreadableFile("a name in its schema is no text")
        item = Global(module, name)
        found.globals.add(item)
        if node.get(_LOADER) not in _NOT_CALLED:
            found.called.add(item)
