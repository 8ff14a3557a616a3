"""Whether an object may be stored: field validation as the client asked for it, then every rule of its kind. Pure."""

from __future__ import annotations

from shoal.apiserver import objects, schema
from shoal.apiserver.errors import StatusCause, bad_request, invalid
from shoal.apiserver.kinds import Served
from shoal.apiserver.state import Document

MAX_CAUSES = 50
MAX_OBJECT_BYTES = 3 * 1024 * 1024


def check_fields(kind: Served, document: Document, duplicates: list[str], mode: str) -> tuple[Document, list[str]]:
    """Return `document` without unknown fields, and warnings about them.

    `mode` is the request's fieldValidation: Strict refuses, Warn warns, Ignore is silent.

    Raises:
        ApiError: 400 under Strict, in the words kubectl users know from Kubernetes, followed by what else is wrong.
    """
    pruned, unknown = schema.prune(document, kind.schema)
    problems = [f'unknown field "{field.path}" ({field.fix})' for field in unknown]
    problems += [f'duplicate field "{path}"' for path in duplicates]
    if problems and mode == "Strict":
        what = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
        others = [f"{cause.field}: {cause.message}" for cause in _type_causes(kind, pruned) or kind.validate(pruned)]
        also = f"; also wrong: {', '.join(others[:MAX_CAUSES])}" if others else ""
        raise bad_request(f"{what}: strict decoding error: {', '.join(problems[:MAX_CAUSES])}{also}")
    return pruned, problems if mode == "Warn" else []


def check_types(kind: Served, document: Document) -> None:
    """Refuse an object whose fields have the wrong types; after this the document can be handled as its kind.

    Shoal's own kinds report the types within their spec together with everything else, in `check_rules`.

    Raises:
        ApiError: 422 that lists every wrong field.
    """
    objects.check_type(kind, document)
    _refuse(kind, document, _type_causes(kind, document))


def _type_causes(kind: Served, document: Document) -> list[StatusCause]:
    if not kind.custom:
        return list(schema.type_causes(document, _without_required_metadata(kind)))
    return [
        cause
        for field in ("metadata", "status")
        if field in document
        for cause in schema.type_causes(document[field], schema.child(kind.schema, field) or {}, field)
    ]


def check_rules(kind: Served, document: Document, old: Document | None = None) -> None:
    """Refuse an object that breaks a rule of its kind or of all objects.

    Raises:
        ApiError: 422 that lists every wrong field with its path and the fix.
    """
    causes = objects.metadata_rules(kind, document, old)
    causes += kind.validate(document)
    if old is not None:
        causes += kind.validate_update(old, document)
    _refuse(kind, document, causes)


def _without_required_metadata(kind: Served) -> schema.Schema:
    """The kind's schema for a body that may leave the metadata to the path and the server."""
    resolved = schema.resolve(kind.schema)
    return {**resolved, "required": [field for field in resolved.get("required", ()) if field != "metadata"]}


def _refuse(kind: Served, document: Document, causes: list[StatusCause]) -> None:
    if causes:
        metadata = document.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else ""
        unique = list(dict.fromkeys(causes))
        raise invalid(kind.kind, kind.group, name if isinstance(name, str) else "", unique[:MAX_CAUSES])
