"""OpenAPI v3 schemas from the models, in the structural style that Kubernetes CRDs ask for.

No `$ref`, no `anyOf` with null, no `additionalProperties: false`: the API server treats unknown fields itself.
No defaults either: stored objects stay as their authors wrote them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_DROPPED = ("title", "additionalProperties", "$defs", "const", "default")


def openapi_schema(model: type[BaseModel], group: str, version: str, kind: str) -> dict[str, Any]:
    """The structural schema of a kind, with descriptions for `kubectl explain`."""
    raw = model.model_json_schema(by_alias=True)
    schema = _structural(raw, raw.get("$defs", {}))
    schema["properties"]["metadata"] = {"type": "object"}
    schema["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": kind}]
    return schema


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    kept = {key: value for key, value in node.items() if key not in _DROPPED}
    if "properties" in kept:
        kept["properties"] = {name: _structural(child, definitions) for name, child in kept["properties"].items()}
    elif isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if node.get("additionalProperties") is True:
        kept["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in kept:
        kept["items"] = _structural(kept["items"], definitions)
    if isinstance(kept.get("description"), str):
        kept["description"] = " ".join(kept["description"].split())
    return kept


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Without references and without alternatives to null; what is said beside a reference wins."""
    own = {key: value for key, value in node.items() if key not in ("$ref", "anyOf", "allOf")}
    if "$ref" in node:
        return {**definitions[node["$ref"].rsplit("/", 1)[-1]], **own}
    choices = [choice for choice in node.get("anyOf", node.get("allOf", ())) if choice.get("type") != "null"]
    if len(choices) == 1:
        return {**_resolved(choices[0], definitions), **own}
    return own
