"""In which form an answer goes out: whole objects, their metadata or a table, by the Accept header. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from shoal.apiserver import clock, tables
from shoal.apiserver.errors import ApiError
from shoal.apiserver.kinds import Served
from shoal.apiserver.reads import Page
from shoal.apiserver.state import Document, ObjectRecord
from shoal.apiserver.watch import Event

Form = Literal["object", "table", "metadata"]


@dataclass(frozen=True, slots=True)
class Representation:
    """The form of an answer; `include` is the table's includeObject."""

    form: Form = "object"
    include: str = "Metadata"


def negotiate(accept: str, include: str) -> Representation:
    """Return the first form in the Accept header that this server writes.

    Raises:
        ApiError: 406 if there is none, e.g. protobuf only.
    """
    if not accept.strip():
        return Representation()
    for part in accept.split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if media_type.lower() not in ("application/json", "application/*", "*/*"):
            continue
        named = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        wanted = named.get("as", "")
        if not wanted:
            return Representation()
        if named.get("g") == "meta.k8s.io" and named.get("v") == "v1":
            if wanted == "Table":
                return Representation("table", include or "Metadata")
            if wanted.startswith("PartialObjectMetadata"):
                return Representation("metadata")
    raise ApiError(406, "NotAcceptable", "only the following media types are accepted: application/json")


def dumps(document: Any) -> bytes:
    """Return a document as compact JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


def one(kind: Served, document: Document, form: Representation) -> bytes:
    """Return one object in `form`."""
    if form.form == "table":
        version = {"resourceVersion": document["metadata"].get("resourceVersion", "")}
        return dumps(tables.render([document], kind.columns, clock.now(), metadata=version, include=form.include))
    return dumps(tables.partial(document) if form.form == "metadata" else document)


def many(kind: Served, page: Page, form: Representation) -> bytes:
    """Return one page of a list in `form`."""
    metadata: dict[str, Any] = {"resourceVersion": str(page.version)}
    if page.continuation:
        metadata |= {"continue": page.continuation, "remainingItemCount": page.remaining}
    documents = (record.document for record in page.records)
    if form.form == "table":
        return dumps(tables.render(documents, kind.columns, clock.now(), metadata=metadata, include=form.include))
    if form.form == "metadata":
        items = [tables.partial(document) for document in documents]
        head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return dumps({**head, "items": items})
    head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata}
    text = json.dumps(head, separators=(",", ":"))[:-1]
    return f'{text},"items":[{",".join(record.text for record in page.records)}]}}'.encode()


def event(kind: Served, told: Event, form: Representation, *, headers: bool) -> bytes:
    """Return one line of a watch."""
    return b'{"type":"' + told.type.encode() + b'","object":' + _event_object(kind, told.record, form, headers) + b"}\n"


def _event_object(kind: Served, record: ObjectRecord, form: Representation, headers: bool) -> bytes:
    if form.form == "object":
        return record.text.encode()
    if form.form == "metadata":
        return dumps(tables.partial(record.document))
    version = {"resourceVersion": str(record.version)}
    return dumps(
        tables.render(
            [record.document], kind.columns, clock.now(), metadata=version, include=form.include, headers=headers
        )
    )


def bookmark(kind: Served, version: int, form: Representation, *, initial_end: bool) -> bytes:
    """Return the watch line that says how far the watch is, so that its client resumes from there."""
    metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    body: dict[str, Any]
    if form.form == "table":
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        body = {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": str(version)},
            "columnDefinitions": [],
            "rows": [{"cells": [""] * len(kind.columns), "object": partial}],
        }
    elif form.form == "metadata":
        body = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    else:
        body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
    return dumps({"type": "BOOKMARK", "object": body}) + b"\n"


def failure(error: ApiError) -> bytes:
    """Return the watch line that ends a watch with an error."""
    return dumps({"type": "ERROR", "object": error.status()}) + b"\n"
