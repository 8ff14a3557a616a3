"""Walk a document along its OpenAPI schema: unknown fields, wrong types, missing fields.

The schemas are structural (Kubernetes' term): every field has one place, `$ref` points into the core schemas, and
`x-kubernetes-preserve-unknown-fields` ends the walk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shoal.apiserver.errors import StatusCause
from shoal.resources.parse import instead_of

Schema = dict[str, Any]
_PREFIX = "#/components/schemas/"
_FREE: Schema = {"x-kubernetes-preserve-unknown-fields": True}
# A custom kind's schema may leave these out; they are the same for all kinds.
_ENVELOPE: dict[str, Schema] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"$ref": f"{_PREFIX}V1ObjectMeta"},
}


@cache
def core_schemas() -> dict[str, Schema]:
    """Return the schemas of the Kubernetes core kinds, by model name."""
    loaded: dict[str, Schema] = json.loads(Path(__file__).with_name("core_schemas.json").read_text())
    return loaded


def with_envelope(schema: Schema) -> Schema:
    """Return the schema of a whole object, with the `apiVersion`, `kind` and `metadata` every object has."""
    if "$ref" in schema:
        return schema
    return {**schema, "type": "object", "properties": {**schema.get("properties", {}), **_ENVELOPE}}


def resolve(schema: Schema) -> Schema:
    """Follow `$ref` (also inside a single-entry `allOf`, where OpenAPI 3.0 puts a described reference)."""
    while True:
        reference = schema.get("$ref")
        if reference is None and len(schema.get("allOf", ())) == 1 and "properties" not in schema:
            schema = schema["allOf"][0]
        elif reference is None:
            return schema
        else:
            schema = core_schemas()[reference.removeprefix(_PREFIX)]


def child(schema: Schema, key: str) -> Schema | None:
    """Return the schema of field `key`, None if the schema does not know such a field."""
    schema = resolve(schema)
    properties = schema.get("properties")
    if properties and key in properties:
        found: Schema = properties[key]
        return resolve(found)
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        return resolve(additional)
    if additional is True or schema.get("x-kubernetes-preserve-unknown-fields") or "type" not in schema:
        return _FREE
    return None


def item(schema: Schema) -> Schema:
    """Return the schema of a list's items."""
    return resolve(resolve(schema).get("items", _FREE))


@dataclass(frozen=True, slots=True)
class Unknown:
    """A field the schema does not know, and what to do about it."""

    path: str
    fix: str


def prune(document: Any, schema: Schema, path: str = "") -> tuple[Any, list[Unknown]]:
    """Return `document` without the fields the schema does not know, and those."""
    unknown: list[Unknown] = []
    return _prune(document, resolve(schema), path, unknown), unknown


def _prune(value: Any, schema: Schema, path: str, unknown: list[Unknown]) -> Any:
    if isinstance(value, dict):
        kept: dict[str, Any] = {}
        for key, entry in value.items():
            at = f"{path}.{key}" if path else key
            known = child(schema, key)
            if known is None:
                unknown.append(Unknown(at, instead_of(key, schema.get("properties", {}))))
            else:
                kept[key] = _prune(entry, known, at, unknown)
        return kept
    if isinstance(value, list):
        inner = item(schema)
        return [_prune(entry, inner, f"{path}[{index}]", unknown) for index, entry in enumerate(value)]
    return value


_CHECKS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def type_causes(value: Any, schema: Schema, path: str = "") -> Iterator[StatusCause]:
    """Yield every field whose type, enumeration or required fields contradict the schema. Null counts as absent."""
    schema = resolve(schema)
    expected = schema.get("type")
    if value is None:
        return
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, (int, float, str)) or isinstance(value, bool):
            yield _wrong_type(path, value, "a number or a string")
        return
    if isinstance(expected, str) and not _is(value, expected):
        yield _wrong_type(path, value, f"of type {expected}{_fix(value, expected, schema)}")
        return
    if "enum" in schema and value not in schema["enum"]:
        known = ", ".join(json.dumps(choice) for choice in schema["enum"])
        yield StatusCause(
            path, f"Unsupported value: {_shown(value)}: supported values: {known}", "FieldValueNotSupported"
        )
    if isinstance(value, dict):
        yield from _object_causes(value, schema, path)
    elif isinstance(value, list):
        inner = item(schema)
        for index, entry in enumerate(value):
            yield from type_causes(entry, inner, f"{path}[{index}]")


def _object_causes(value: dict[str, Any], schema: Schema, path: str) -> Iterator[StatusCause]:
    for key in schema.get("required", ()):
        if value.get(key) is None:
            yield StatusCause(f"{path}.{key}".lstrip("."), "Required value", "FieldValueRequired")
    for key, entry in value.items():
        known = child(schema, key)
        if known is not None:
            yield from type_causes(entry, known, f"{path}.{key}" if path else key)


def _is(value: Any, expected: str) -> bool:
    if isinstance(value, bool):
        return expected == "boolean"
    return isinstance(value, _CHECKS.get(expected, (object,)))


def _fix(value: Any, expected: str, schema: Schema) -> str:
    if expected != "string" or not isinstance(value, (int, float)):
        return ""
    example = next(iter(schema.get("examples", ())), None)
    return f"; write it like {example}" if example else f'; write it in quotes: "{_shown(value)}"'


def _wrong_type(path: str, value: Any, expected: str) -> StatusCause:
    return StatusCause(path, f"Invalid value: {_shown(value)}: must be {expected}", "FieldValueTypeInvalid")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
