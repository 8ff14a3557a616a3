"""`shoal get`: tables as the server makes them, objects as YAML or JSON, and the mesh's copies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from shoal.cli import session
from shoal.cli.errors import CliError, UsageProblem
from shoal.cli.objects.applying import full_name
from shoal.cli.objects.kinds import by_name
from shoal.cli.output import OutputFormat, age_of, as_json, as_yaml, note, show, size, table
from shoal.cluster.errors import ApiRequestError
from shoal.cluster.kube_client import TABLE, ApiResource, KubeClient, Object

_COPIES = ("copies", "copy")


@dataclass(frozen=True, slots=True)
class Query:
    """What to list and how."""

    kind: str
    names: tuple[str, ...]
    output: OutputFormat
    watch: bool = False
    selector: str = ""
    everywhere: bool = False


def list_objects(target: session.SessionTarget, query: Query) -> None:
    """`shoal get`.

    Raises:
        CliError: there are no such objects.
    """
    kind, slash, name = query.kind.partition("/")
    if slash:
        query = Query(kind, (name, *query.names), query.output, query.watch, query.selector, query.everywhere)
    if "," in kind and query.names:
        raise UsageProblem("a name goes with one kind: list several kinds without names, or one kind with names")
    if query.everywhere and query.names:
        raise UsageProblem("an object cannot be named across all namespaces: drop --all-namespaces or the name")
    kinds = query.kind.split(",")
    if len(kinds) > 1 and query.watch:
        raise UsageProblem("--watch follows one kind")
    for index, each in enumerate(kinds):
        if index and query.output in (OutputFormat.TABLE, OutputFormat.WIDE):
            show("")
        _list_kind(target, replace(query, kind=each))


def _list_kind(target: session.SessionTarget, query: Query) -> None:
    work = _copies if query.kind.lower() in _COPIES else _objects
    session.run(target, lambda client: work(client, target.namespace, query))


# --- objects ---------------------------------------------------------------------------------------------------------


async def _objects(client: KubeClient, namespace: str, query: Query) -> None:
    resource = await by_name(client, query.kind)
    inside = None if query.everywhere else namespace
    if query.output in (OutputFormat.TABLE, OutputFormat.WIDE):
        await _tables(client, resource, inside, query)
    else:
        await _documents(client, resource, inside, query)


async def _documents(client: KubeClient, resource: ApiResource, namespace: str | None, query: Query) -> None:
    items, version = await client.list(resource, namespace, query.selector)
    if query.names:
        by = {item["metadata"]["name"]: item for item in items}
        _require(resource, query.names, by)
        items = [by[name] for name in query.names]
    items = [{"apiVersion": resource.api_version, "kind": resource.kind} | item for item in items]
    if query.output is OutputFormat.NAME:
        for item in items:
            show(full_name(resource, item["metadata"]["name"]))
    else:
        document: Object = items[0] if len(query.names) == 1 else {"apiVersion": "v1", "kind": "List", "items": items}
        show(_text(document, query.output))
    if query.watch:
        async for item in _changes(client, resource, namespace, version, query):
            show(("---\n" if query.output is OutputFormat.YAML else "") + _text(item, query.output))


def _text(document: Object, output: OutputFormat) -> str:
    if output is OutputFormat.NAME:
        return str(document["metadata"]["name"])
    return as_yaml(document) if output is OutputFormat.YAML else as_json(document)


def _require(resource: ApiResource, names: tuple[str, ...], found: Any) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        where = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
        raise CliError(f"{where} {', '.join(missing)} not found")


async def _changes(client: KubeClient, resource: ApiResource, namespace: str | None, version: str, query: Query) -> Any:
    async for event in client.watch(resource.path(namespace), _params(query) | {"resourceVersion": version}):
        if event["type"] == "BOOKMARK":
            continue
        item = event["object"]
        if not query.names or item["metadata"]["name"] in query.names:
            yield item


def _params(query: Query) -> dict[str, str]:
    return {"labelSelector": query.selector} if query.selector else {}


# --- tables ----------------------------------------------------------------------------------------------------------


async def _tables(client: KubeClient, resource: ApiResource, namespace: str | None, query: Query) -> None:
    document = await client.json("GET", resource.path(namespace), params=_params(query), accept=TABLE)
    if document.get("kind") != "Table":
        raise CliError("the server makes no tables; use -o yaml")
    columns = _columns(document, query)
    rows = [row for row in document.get("rows") or () if _wanted(row, query)]
    if query.names:
        _require(resource, query.names, {_meta(row)["name"] for row in rows})
    header = [document["columnDefinitions"][index]["name"].upper() for index in columns]
    if query.everywhere and resource.namespaced:
        header.insert(0, "NAMESPACE")
    lines = [_cells(row, columns, resource, query) for row in rows]
    if lines or query.watch:
        show(table(header, lines))
    else:
        note(f"no {resource.plural} in " + ("any namespace" if query.everywhere else f"namespace {namespace}"))
    if query.watch:
        await _watch_table(client, resource, namespace, document["metadata"].get("resourceVersion", ""), query)


def _columns(document: Object, query: Query) -> list[int]:
    wide = query.output is OutputFormat.WIDE
    definitions = document["columnDefinitions"]
    return [index for index, column in enumerate(definitions) if wide or not column.get("priority")]


def _meta(row: Object) -> Object:
    metadata: Object = row["object"]["metadata"]
    return metadata


def _wanted(row: Object, query: Query) -> bool:
    return not query.names or _meta(row)["name"] in query.names


def _cells(row: Object, columns: list[int], resource: ApiResource, query: Query) -> list[str]:
    cells = [_cell(row["cells"][index]) for index in columns]
    return [_meta(row).get("namespace", ""), *cells] if query.everywhere and resource.namespaced else cells


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


async def _watch_table(
    client: KubeClient, resource: ApiResource, namespace: str | None, version: str, query: Query
) -> None:
    """Print one object's row anew whenever it changes, as kubectl does."""
    async for item in _changes(client, resource, namespace, version, query):
        metadata = item["metadata"]
        inside = metadata.get("namespace", namespace)
        try:
            document = await client.json("GET", resource.path(inside, metadata["name"]), accept=TABLE)
        except ApiRequestError as error:
            if error.code != 404:
                raise
            show(f"{metadata['name']}   (deleted)")
            continue
        for row in document.get("rows") or ():
            show("   ".join(_cells(row, _columns(document, query), resource, query)))


# --- copies ----------------------------------------------------------------------------------------------------------


async def _copies(client: KubeClient, namespace: str, query: Query) -> None:
    before = ""
    while True:
        document = await session.mesh_json(client, namespace, "/copies")
        copies = [copy for copy in document["copies"] if not query.names or _of(copy, query.names)]
        text = _copies_text(copies, query.output, time.time())
        if text != before:
            show(text) if text else note("no copies: no model is loaded")
            before = text
        if not query.watch:
            return
        await asyncio.sleep(1.0)


def _of(copy: Object, names: tuple[str, ...]) -> bool:
    """Whether a copy is of one of these revisions, endpoints or pods."""
    revision = copy["revision"]
    return any(name in (revision, copy["pod"], revision.split("__isvc-")[0]) for name in names)


def _copies_text(copies: list[Object], output: OutputFormat, now: float) -> str:
    formats: dict[OutputFormat, Callable[[list[Object]], str]] = {
        OutputFormat.JSON: lambda found: as_json({"copies": found}),
        OutputFormat.YAML: lambda found: as_yaml({"copies": found}),
        OutputFormat.NAME: lambda found: "\n".join(copy["revision"] for copy in found),
    }
    if output in formats:
        return formats[output](copies)
    header = ["REVISION", "POD", "STATE", "SIZE", "LAST USED", "AGE"]
    rows = [
        [
            copy["revision"],
            copy["pod"],
            copy["state"],
            size(copy["sizeBytes"]),
            age_of(copy.get("lastUsed"), now),
            age_of(copy.get("since"), now),
        ]
        for copy in copies
    ]
    if output is OutputFormat.WIDE:
        header.append("ERROR")
        for row, copy in zip(rows, copies, strict=True):
            row.append(copy.get("error") or "")
    return table(header, rows) if rows else ""
