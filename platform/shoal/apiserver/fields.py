"""Documents as sets of owned fields: the `fieldsV1` of managedFields.

A field is a path of steps as Kubernetes writes them: `f:NAME` for a field, `k:{"name":"x"}` for an item of a list
that is merged by key, `v:"x"` for an item of a set. Other lists are owned whole.
Source: Kubernetes, server-side apply.
"""

from __future__ import annotations

import json
from typing import Any

from shoal.apiserver.schema import Schema, child, item, resolve

Path = tuple[str, ...]
Fields = dict[Path, Any]
ITEM = object()
"""The value under a path that stands for an item as such, not for one of its fields."""
# Kubernetes gives this key field a default; two ports without a protocol are both TCP.
_KEY_DEFAULTS = {"protocol": "TCP"}
_UNOWNED_METADATA = frozenset(
    {
        *("name", "namespace", "generateName", "uid", "resourceVersion", "generation", "selfLink", "managedFields"),
        *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    }
)


def owned(document: dict[str, Any], schema: Schema, subresource: str = "") -> Fields:
    """Return the fields of `document` that can be owned by a write to the object ("") or to its "status"."""
    fields: Fields = {}
    for name, value in document.items():
        if name in ("apiVersion", "kind") or (name == "status") != (subresource == "status"):
            continue
        known = child(schema, name) or {}
        if name == "metadata":
            value = {key: entry for key, entry in value.items() if key not in _UNOWNED_METADATA}
            if not value:
                continue
        _flatten(value, known, (f"f:{name}",), fields)
    return fields


def _flatten(value: Any, schema: Schema, path: Path, fields: Fields) -> None:
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            _flatten(entry, child(schema, key) or {}, (*path, f"f:{key}"), fields)
    elif isinstance(value, list) and value and (steps := item_steps(value, schema)) is not None:
        inner = item(schema)
        for step, entry in zip(steps, value, strict=True):
            fields[*path, step] = ITEM
            if step.startswith("k:"):
                _flatten(entry, inner, (*path, step), fields)
    else:
        fields[path] = value


def item_steps(values: list[Any], schema: Schema) -> list[str] | None:
    """Return the step that names each item, None if the list is owned as a whole."""
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        steps = [f"v:{json.dumps(value)}" for value in values]
    elif kind == "map" and all(isinstance(value, dict) for value in values):
        steps = [_key_step(value, schema["x-kubernetes-list-map-keys"]) for value in values]
    else:
        return None
    return steps if len(set(steps)) == len(steps) else None


def _key_step(value: dict[str, Any], keys: list[str]) -> str:
    found = {key: value.get(key, _KEY_DEFAULTS.get(key)) for key in keys}
    return "k:" + json.dumps({k: v for k, v in found.items() if v is not None}, sort_keys=True, separators=(",", ":"))


def merge(live: Any, applied: Any, schema: Schema) -> Any:
    """Return `live` overlaid with `applied`: objects by field, keyed lists by key, sets by union, all else replaced."""
    schema = resolve(schema)
    if isinstance(live, dict) and isinstance(applied, dict):
        merged = dict(live)
        for key, value in applied.items():
            merged[key] = merge(live[key], value, child(schema, key) or {}) if key in live else value
        return merged
    if isinstance(live, list) and isinstance(applied, list):
        return _merge_lists(live, applied, schema)
    return applied


def _merge_lists(live: list[Any], applied: list[Any], schema: Schema) -> list[Any]:
    live_steps, applied_steps = item_steps(live, schema), item_steps(applied, schema)
    if live_steps is None or applied_steps is None:
        return applied
    wanted = dict(zip(applied_steps, applied, strict=True))
    inner = item(schema)
    merged = [
        merge(entry, wanted.pop(step), inner) if step in wanted else entry
        for step, entry in zip(live_steps, live, strict=True)
    ]
    return [*merged, *wanted.values()]


def without(document: Any, paths: set[Path], schema: Schema) -> Any:
    """Return `document` without the fields and items at `paths`; objects emptied by that go too."""
    if not paths:
        return document
    by_step: dict[str, set[Path]] = {}
    gone: set[str] = set()
    for path in paths:
        if len(path) == 1:
            gone.add(path[0])
        else:
            by_step.setdefault(path[0], set()).add(path[1:])
    schema = resolve(schema)
    if isinstance(document, dict):
        return _without_fields(document, gone, by_step, schema)
    if isinstance(document, list) and (steps := item_steps(document, schema)) is not None:
        inner = item(schema)
        return [
            without(entry, by_step.get(step, set()), inner)
            for step, entry in zip(steps, document, strict=True)
            if step not in gone
        ]
    return document


def _without_fields(
    document: dict[str, Any], gone: set[str], by_step: dict[str, set[Path]], schema: Schema
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in document.items():
        step = f"f:{key}"
        if step in gone:
            continue
        if step not in by_step:
            kept[key] = value
            continue
        rest = without(value, by_step[step], child(schema, key) or {})
        if rest or not isinstance(rest, (dict, list)):
            kept[key] = rest
    return kept


def to_json(paths: set[Path]) -> dict[str, Any]:
    """Return `paths` as a `fieldsV1` tree."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return tree


def from_json(tree: Any) -> set[Path]:
    """Return the paths of a `fieldsV1` tree; what is not understood is left out."""
    paths: set[Path] = set()
    if isinstance(tree, dict):
        _collect(tree, (), paths)
    return paths


def _collect(tree: dict[str, Any], path: Path, paths: set[Path]) -> None:
    children = {step: node for step, node in tree.items() if step != "." and isinstance(node, dict)}
    if path and (not children or "." in tree):
        paths.add(path)
    for step, node in children.items():
        _collect(node, (*path, step), paths)
