"""Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7396) and Kubernetes' strategic merge patch. Pure.

A JSON patch can copy a value into itself over and over, so the size of what it makes is bounded while it runs; the
libraries for RFC 6902 have no such bound.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from shoal.apiserver.errors import ApiError, StatusCause, bad_request
from shoal.apiserver.schema import Schema, child, item, resolve

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 512 * 1024


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` with a JSON merge patch applied: null deletes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(document: Any, operations: Any) -> Any:
    """Return `document` with a JSON patch applied.

    Raises:
        ApiError: 400 for a malformed patch, 422 for one that does not fit the document (a failed `test` included).
    """
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise bad_request("a JSON patch is a list of operations, each an object with op and path")
    if len(operations) > MAX_OPERATIONS:
        raise bad_request(f"a JSON patch may have at most {MAX_OPERATIONS} operations, this one has {len(operations)}")
    result = copy.deepcopy(document)
    copied = 0
    for index, operation in enumerate(operations):
        try:
            result, size = _operate(result, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise _unfit(index, operation, _reason(error)) from None
        copied += size
        if copied > MAX_COPIED_BYTES:
            raise bad_request(f"the copy operations of a JSON patch may not copy more than {MAX_COPIED_BYTES} bytes")
    return result


def _operate(document: Any, operation: dict[str, Any]) -> tuple[Any, int]:
    op, path = operation.get("op"), _pointer(operation.get("path"))
    if op in ("add", "replace", "test") and "value" not in operation:
        raise ValueError("value is missing")
    if op == "add":
        return _add(document, path, copy.deepcopy(operation["value"])), 0
    if op == "remove":
        return _remove(document, path)[0], 0
    if op == "replace":
        return _replace(document, path, copy.deepcopy(operation["value"])), 0
    if op == "test":
        if not _same(_get(document, path), operation["value"]):
            raise ValueError("the test failed: the value there is another one")
        return document, 0
    if op == "move":
        source = _pointer(operation.get("from"))
        if source == path[: len(source)] and source != path:
            raise ValueError("cannot move a value into itself")
        document, value = _remove(document, source)
        return _add(document, path, value), 0
    if op == "copy":
        value = _get(document, _pointer(operation.get("from")))
        return _add(document, path, copy.deepcopy(value)), len(json.dumps(value))
    raise ValueError(f"unknown op {op!r}; use add, remove, replace, move, copy or test")


def _same(left: Any, right: Any) -> bool:
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise ValueError(f"{text!r} is not a JSON pointer such as /metadata/labels/app")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _get(document: Any, path: list[str]) -> Any:
    for step in path:
        document = document[_index(document, step)]
    return document


def _index(container: Any, step: str, *, end: bool = False) -> Any:
    if isinstance(container, dict):
        return step
    if not isinstance(container, list):
        raise TypeError(f"there is nothing below {step!r}")
    if end and step == "-":
        return len(container)
    if not step.isdecimal() or int(step) > len(container) - (0 if end else 1):
        raise IndexError(f"no item {step!r} in a list of {len(container)}")
    return int(step)


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    at = _index(parent, path[-1], end=True)
    if isinstance(parent, list):
        parent.insert(at, value)
    else:
        parent[at] = value
    return document


def _remove(document: Any, path: list[str]) -> tuple[Any, Any]:
    if not path:
        return None, document
    parent = _get(document, path[:-1])
    at = _index(parent, path[-1])
    if isinstance(parent, dict) and at not in parent:
        raise KeyError(f"no field {at!r} to remove")
    return document, parent.pop(at)


def _replace(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    at = _index(parent, path[-1])
    if isinstance(parent, dict) and at not in parent:
        raise KeyError(f"no field {at!r} to replace")
    parent[at] = value
    return document


def _reason(error: Exception) -> str:
    match error:
        case KeyError(args=(str(said),)):  # As text it is in quotes, and a plain lookup's is only the key.
            return said if said.startswith("no field") else f"no field {said!r}"
        case _:
            return str(error)


def _unfit(index: int, operation: dict[str, Any], why: str) -> ApiError:
    path = operation.get("path", "")
    message = f"the JSON patch does not apply: operation {index} ({operation.get('op')} {path}): {why}"
    cause = StatusCause(str(path), why)
    return ApiError(422, "Invalid", message, details={"causes": [cause.to_json()]})


def strategic_merge(target: Any, patch: Any, schema: Schema) -> Any:
    """Return `target` with a strategic merge patch applied; lists that have a merge key in `schema` merge by it."""
    schema = resolve(schema)
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "delete":
        return {}
    if patch.get("$patch") == "replace" or not isinstance(target, dict):
        return _without_directives(patch)
    merged = dict(target)
    for key, value in patch.items():
        if key.startswith("$"):
            _directive(merged, key, value)
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, list):
            merged[key] = _merge_list(merged.get(key), value, child(schema, key) or {})
        else:
            merged[key] = strategic_merge(merged.get(key), value, child(schema, key) or {})
    _reorder(merged, patch, schema)
    return merged


def _directive(merged: dict[str, Any], key: str, value: Any) -> None:
    name, _, field = key.partition("/")
    if name == "$deleteFromPrimitiveList" and isinstance(merged.get(field), list):
        merged[field] = [entry for entry in merged[field] if entry not in value]
    elif name == "$retainKeys":
        for absent in merged.keys() - set(value):
            del merged[absent]


def _merge_list(target: Any, patch: list[Any], schema: Schema) -> list[Any]:
    if not isinstance(target, list) or schema.get("x-kubernetes-patch-strategy") != "merge":
        return [_without_directives(entry) for entry in patch if not _is_directive(entry)]
    if any(isinstance(entry, dict) and entry.get("$patch") == "replace" for entry in patch):
        return [_without_directives(entry) for entry in patch if not _is_directive(entry)]
    key = schema.get("x-kubernetes-patch-merge-key")
    if key is None:
        return [*target, *(entry for entry in patch if entry not in target)]
    return _merge_by_key(target, patch, key, item(schema))


def _merge_by_key(target: list[Any], patch: list[Any], key: str, schema: Schema) -> list[Any]:
    merged = list(target)
    for entry in patch:
        if not isinstance(entry, dict) or key not in entry:
            raise bad_request(f"an item of the strategic merge patch has no merge key {key!r}")
        at = next((i for i, old in enumerate(merged) if isinstance(old, dict) and old.get(key) == entry[key]), None)
        if entry.get("$patch") == "delete":
            merged = [old for old in merged if not isinstance(old, dict) or old.get(key) != entry[key]]
        elif at is None:
            merged.append(_without_directives(entry))
        else:
            merged[at] = strategic_merge(merged[at], entry, schema)
    return merged


def _is_directive(entry: Any) -> bool:
    return isinstance(entry, dict) and "$patch" in entry


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_directives(v) for k, v in value.items() if not k.startswith("$") and v is not None}
    if isinstance(value, list):
        return [_without_directives(entry) for entry in value]
    return value


def _reorder(merged: dict[str, Any], patch: dict[str, Any], schema: Schema) -> None:
    """Put merged lists into the order that `$setElementOrder` asks for; items it does not name stay at the end."""
    for directive, wanted in patch.items():
        name, _, field = directive.partition("/")
        if name != "$setElementOrder" or not isinstance(merged.get(field), list) or not isinstance(wanted, list):
            continue
        key = (child(schema, field) or {}).get("x-kubernetes-patch-merge-key")
        order = [json.dumps(entry.get(key) if key and isinstance(entry, dict) else entry) for entry in wanted]
        ranks = {name: rank for rank, name in enumerate(order)}

        def rank(entry: Any, key: str | None = key, ranks: dict[str, int] = ranks) -> int:
            named = entry.get(key) if key and isinstance(entry, dict) else entry
            return ranks.get(json.dumps(named), len(ranks))

        merged[field] = sorted(merged[field], key=rank)
