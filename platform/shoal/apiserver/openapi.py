"""The OpenAPI v3 documents: for `kubectl explain`, and to tell kubectl that this server validates fields. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shoal.apiserver.kinds import Kinds, Served
from shoal.apiserver.schema import Schema, core_schemas

_PREFIX = "#/components/schemas/"


def index(kinds: Kinds) -> dict[str, Any]:
    """Return the body of `/openapi/v3`; each document's address carries its hash, so that clients can cache it."""
    paths = {}
    for group, version in kinds.group_versions():
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        digest = hashlib.sha256(json.dumps(document(kinds, group, version), sort_keys=True).encode()).hexdigest()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest[:32].upper()}"}
    return {"paths": paths}


def document(kinds: Kinds, group: str, version: str) -> dict[str, Any]:
    """Return the OpenAPI v3 document of one group and version."""
    served = [kind for kind in kinds.all if (kind.group, kind.version) == (group, version)]
    schemas: dict[str, Schema] = {}
    paths: dict[str, Any] = {}
    for kind in served:
        _add_schema(kind, schemas)
        paths.update(_paths(kind))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Shoal", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _schema_name(kind: Served) -> str:
    reference: str = kind.schema.get("$ref", "")
    return reference.removeprefix(_PREFIX) or f"{kind.group}.{kind.version}.{kind.kind}"


def _add_schema(kind: Served, schemas: dict[str, Schema]) -> None:
    name = _schema_name(kind)
    whole = core_schemas().get(name, kind.schema)
    gvk = [{"group": kind.group, "version": kind.version, "kind": kind.kind}]
    schemas[name] = {**whole, "x-kubernetes-group-version-kind": gvk}
    todo = _references(whole)
    while todo:
        reference = todo.pop()
        if reference not in schemas:
            schemas[reference] = core_schemas()[reference]
            todo += _references(schemas[reference])


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        found = [node["$ref"].removeprefix(_PREFIX)] if isinstance(node.get("$ref"), str) else []
        return found + [name for value in node.values() for name in _references(value)]
    if isinstance(node, list):
        return [name for value in node for name in _references(value)]
    return []


def _parameter(name: str, kind: str = "string", where: str = "query") -> dict[str, Any]:
    return {"name": name, "in": where, "schema": {"type": kind, "uniqueItems": True}, "required": where == "path"}


def _operation(kind: Served, action: str, body: bool) -> dict[str, Any]:
    reference = {"$ref": f"{_PREFIX}{_schema_name(kind)}"}
    operation: dict[str, Any] = {
        "operationId": f"{action}{kind.group}{kind.version}{kind.kind}",
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
    }
    if body:
        operation["parameters"] = [_parameter(name) for name in ("dryRun", "fieldManager", "fieldValidation")]
        operation["requestBody"] = {"content": {"application/json": {"schema": reference}}}
    if action == "patch":
        operation["parameters"].append(_parameter("force", "boolean"))
    return operation


def _paths(kind: Served) -> dict[str, Any]:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = [_parameter("namespace", where="path")] if kind.namespaced else []
    collection = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    one = {
        "parameters": [_parameter("name", where="path"), *scope],
        "get": _operation(kind, "get", body=False),
        "put": _operation(kind, "put", body=True),
        "patch": _operation(kind, "patch", body=True),
        "delete": _operation(kind, "delete", body=False),
    }
    every = {
        "parameters": scope,
        "get": _operation(kind, "list", body=False),
        "post": _operation(kind, "post", body=True),
        "delete": _operation(kind, "deletecollection", body=False),
    }
    return {collection: every, f"{collection}/{{name}}": one}
