"""The writing verbs: create, update, patch, apply, delete. Each is one draft of the store.

HTTP is not known here; a caller brings a decoded body and gets the stored object, warnings and whether it is new.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from shoal.apiserver import apply, clock, lifecycle, merge, objects, validation
from shoal.apiserver.errors import ApiError, StatusCause, already_exists, bad_request, forbidden, not_found
from shoal.apiserver.kinds import Kinds, Served
from shoal.apiserver.paths import RequestTarget, WriteOptions
from shoal.apiserver.selectors import Selector
from shoal.apiserver.state import Document, Key, ObjectRecord, StateDraft
from shoal.apiserver.store import ObjectStore

EVENT_SECONDS = 3600
_RUNTIMES = ("serving.kserve.io/servingruntimes", "serving.kserve.io/clusterservingruntimes")
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"

Patch = Callable[[Document], Document]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write left behind."""

    document: Document
    warnings: tuple[str, ...] = ()
    created: bool = False


def patch_of(kind: Served, media_type: str, body: Any) -> Patch:
    """Return the function that applies a patch body of `media_type` to a document.

    Raises:
        ApiError: 400 if the body is no patch of that type (when called, 422 if it does not fit the document).
    """
    if media_type == "application/json-patch+json":
        return lambda document: _object(merge.json_patch(document, body))
    if not isinstance(body, dict):
        raise bad_request("the patch must be one JSON object")
    if media_type == "application/merge-patch+json":
        return lambda document: _object(merge.merge_patch(document, body))
    return lambda document: _object(merge.strategic_merge(document, body, kind.schema))


def _object(patched: Any) -> Document:
    if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
        raise bad_request("the patch leaves no object with metadata")
    return patched


class Writes:
    """The writing verbs over one store."""

    def __init__(self, store: ObjectStore, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds

    async def create(
        self, target: RequestTarget, sent: Document, duplicates: list[str], options: WriteOptions
    ) -> WriteResult:
        """Create an object.

        Raises:
            ApiError: 400, 403, 404 (no such namespace), 409 (the name is taken), 422.
        """
        kind = target.kind
        sent, warnings = _checked(kind, sent, duplicates, options)
        written = await self._run(lambda draft: self._create(draft, target, sent, None, options), options)
        await self._collect(written, options)
        return self._with_warnings(kind, written, warnings)

    async def update(
        self, target: RequestTarget, sent: Document, duplicates: list[str], options: WriteOptions
    ) -> WriteResult:
        """Replace an object (or, by subresource, its status).

        Raises:
            ApiError: 400, 404, 409 (stale resourceVersion), 422.
        """
        kind = target.kind
        sent, warnings = _checked(kind, sent, duplicates, options)
        objects.require_version(kind, sent)
        written = await self._run(
            lambda draft: self._replace(draft, self._existing(draft, target), sent, target, options), options
        )
        return self._with_warnings(kind, written, warnings)

    async def patch(
        self, target: RequestTarget, patch: Patch, duplicates: list[str], options: WriteOptions
    ) -> WriteResult:
        """Patch an object (or its status) as it is at the moment of the write.

        Raises:
            ApiError: 400, 404, 409 (the patch names a stale resourceVersion), 422.
        """
        warnings: list[str] = []

        def decide(draft: StateDraft) -> WriteResult:
            record = self._existing(draft, target)
            patched, found = _checked(target.kind, patch(record.document), duplicates, options)
            warnings.extend(found)
            return self._replace(draft, record, patched, target, options)

        written = await self._run(decide, options)
        return self._with_warnings(target.kind, written, warnings)

    async def apply(
        self, target: RequestTarget, sent: Document, duplicates: list[str], options: WriteOptions
    ) -> WriteResult:
        """Server-side apply, creating the object if it is missing.

        Raises:
            ApiError: 400, 404, 409 (fields of other managers), 422.
        """
        kind = target.kind
        sent, warnings = _checked(kind, sent, duplicates, options)
        if sent.get("metadata", {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        sent = {**sent, "metadata": {"name": target.name, **sent.get("metadata", {})}}
        written = await self._run(lambda draft: self._apply(draft, target, sent, options), options)
        await self._collect(written, options)
        return self._with_warnings(kind, written, warnings)

    async def delete(
        self, target: RequestTarget, wanted: lifecycle.DeleteOptions, options: WriteOptions
    ) -> tuple[Document, bool]:
        """Delete an object; return its last state and whether it is gone.

        Raises:
            ApiError: 403, 404, 409 (failed preconditions).
        """

        def decide(draft: StateDraft) -> tuple[Document, bool]:
            before = self._existing(draft, target)
            left = lifecycle.Deletion(draft, self._kinds, lifecycle.now_stamp()).delete(before.key, wanted)
            return (left or before).document, left is None

        return await self._run(decide, options)

    async def delete_all(
        self, target: RequestTarget, selector: Selector, wanted: lifecycle.DeleteOptions, options: WriteOptions
    ) -> list[Document]:
        """Delete the selected objects of a collection, together."""

        def decide(draft: StateDraft) -> list[Document]:
            deleted: list[Document] = []
            deletion = lifecycle.Deletion(draft, self._kinds, lifecycle.now_stamp())
            for key, record in sorted(self._store.state.objects.get(target.kind.resource, {}).items()):
                if (not target.namespace or key.namespace == target.namespace) and selector.matches(record.document):
                    if draft.get(key) is not None:
                        deletion.delete(key, wanted)
                    deleted.append(record.document)
            return deleted

        return await self._run(decide, options)

    async def _run(self, decide: Callable[[StateDraft], _T], options: WriteOptions) -> _T:
        if not options.dry_run:
            return await self._store.write(decide)

        return await self._store.rehearse(decide)

    async def _collect(self, written: WriteResult, options: WriteOptions) -> None:
        """A new object whose owners are already gone is garbage: somebody deleted them meanwhile."""
        document = written.document
        if not written.created or options.dry_run or not document["metadata"].get("ownerReferences"):
            return
        kind = next(k for k in self._kinds.all if (k.api_version, k.kind) == (document["apiVersion"], document["kind"]))
        key = Key(kind.resource, document["metadata"].get("namespace", ""), document["metadata"]["name"])
        at = lifecycle.now_stamp()
        await self._store.write(lambda draft: lifecycle.Deletion(draft, self._kinds, at).collect(key))

    def _with_warnings(self, kind: Served, written: WriteResult, warnings: list[str]) -> WriteResult:
        found = [*warnings, *kind.warn(written.document)]
        if kind.warn_of_runtime is not None:
            found += kind.warn_of_runtime(written.document, self._runtimes(written.document["metadata"]["namespace"]))
        return WriteResult(written.document, tuple(found), written.created)

    def _runtimes(self, namespace: str) -> Iterator[Document]:
        """The runtimes that count in a namespace."""
        for resource in _RUNTIMES:
            for key, record in self._store.state.objects.get(resource, {}).items():
                if key.namespace in ("", namespace):
                    yield record.document

    def _existing(self, draft: StateDraft, target: RequestTarget) -> ObjectRecord:
        kind = target.kind
        record = draft.get(Key(kind.resource, target.namespace, target.name))
        if record is None:
            raise not_found(kind.plural, kind.group, target.name)
        return record

    def _create(
        self, draft: StateDraft, target: RequestTarget, sent: Document, applied: Document | None, options: WriteOptions
    ) -> WriteResult:
        kind, at = target.kind, clock.stamp(clock.now())
        suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
        document = objects.for_create(kind, sent, target.namespace, uid=str(uuid.uuid4()), at=at, suffix=suffix)
        kind.default(document := _unshared(document))
        validation.check_rules(kind, document)
        name = document["metadata"]["name"]
        if target.name and target.name != name:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
        key = Key(kind.resource, target.namespace, name)
        self._check_namespace(draft, key, kind)
        if draft.get(key) is not None:
            raise already_exists(kind.plural, kind.group, name)
        if applied is None:
            writer = apply.Writer(options.manager, "Update", "", kind.api_version, at)
            document = apply.track(None, document, kind.schema, writer)
        else:
            writer = apply.Writer(options.manager, "Apply", "", kind.api_version, at)
            document["metadata"].pop("managedFields", None)
            document = apply.apply(document, applied, kind.schema, writer, force=options.force)
        if key.resource == "/events":
            self._expire_events(draft)
        return WriteResult(draft.put(key, document).document, created=True)

    def _check_namespace(self, draft: StateDraft, key: Key, kind: Served) -> None:
        if not kind.namespaced:
            return
        if not key.namespace:
            raise bad_request(f"{kind.kind} is namespaced: create it under /namespaces/NAMESPACE/{kind.plural}")
        namespace = draft.get(Key(lifecycle.NAMESPACES, "", key.namespace))
        if namespace is None:
            missing = not_found("namespaces", "", key.namespace)
            raise ApiError(
                404, missing.reason, f"{missing.message}; create it first: kubectl create namespace {key.namespace}",
                details=missing.details,
            )  # fmt: skip
        if namespace.document["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {key.namespace} because it is being terminated"
            cause = StatusCause(
                "metadata.namespace", f"namespace {key.namespace} is being terminated", "NamespaceTerminating"
            )
            raise forbidden(kind.plural, kind.group, key.name, why, [cause])

    def _expire_events(self, draft: StateDraft) -> None:
        """Events are news: each new one takes those older than an hour with it. The oldest come first in the state."""
        now = clock.now()
        for key, record in self._store.state.objects.get("/events", {}).items():
            created = clock.parse(record.document["metadata"]["creationTimestamp"])
            if created is not None and (now - created).total_seconds() < EVENT_SECONDS:
                return
            draft.remove(key)

    def _replace(
        self, draft: StateDraft, record: ObjectRecord, sent: Document, target: RequestTarget, options: WriteOptions
    ) -> WriteResult:
        kind, old = target.kind, record.document
        new = _unshared(objects.for_update(kind, old, sent, target.subresource))
        self._check_change(kind, old, new, target.subresource)
        new = objects.bump_generation(kind, old, new)
        writer = apply.Writer(options.manager, "Update", target.subresource, kind.api_version, clock.stamp(clock.now()))
        return self._store_change(draft, record, apply.track(old, new, kind.schema, writer))

    def _apply(self, draft: StateDraft, target: RequestTarget, sent: Document, options: WriteOptions) -> WriteResult:
        kind = target.kind
        record = draft.get(Key(kind.resource, target.namespace, target.name))
        if record is None:
            if target.subresource:
                raise not_found(kind.plural, kind.group, target.name)
            return self._create(draft, target, sent, sent, options)
        old = record.document
        objects.for_update(kind, old, sent, target.subresource)
        writer = apply.Writer(options.manager, "Apply", target.subresource, kind.api_version, clock.stamp(clock.now()))
        new = _unshared(apply.apply(old, sent, kind.schema, writer, force=options.force))
        self._check_change(kind, old, new, target.subresource)
        return self._store_change(draft, record, objects.bump_generation(kind, old, new))

    def _check_change(self, kind: Served, old: Document, new: Document, subresource: str) -> None:
        if subresource:
            return
        kind.default(new)
        if kind.has_status and "status" in old:
            new["status"] = old["status"]
        if not objects.same_content(old, new):
            validation.check_rules(kind, new, old)

    def _store_change(self, draft: StateDraft, record: ObjectRecord, new: Document) -> WriteResult:
        if objects.unchanged(record.document, new):
            return WriteResult(record.document)
        stored = draft.put(record.key, new)
        left = lifecycle.Deletion(draft, self._kinds, lifecycle.now_stamp()).settle(record.key)
        return WriteResult((left or stored).document)


def _checked(kind: Served, sent: Document, duplicates: list[str], options: WriteOptions) -> tuple[Document, list[str]]:
    """Return what a client sent, ready to be handled as its kind, and warnings."""
    fields, warnings = validation.check_fields(kind, objects.without_nulls(sent), duplicates, options.field_validation)
    validation.check_types(kind, fields)
    return fields, warnings


def _unshared(document: Document) -> Document:
    """Return a copy deep enough for defaults to be written into it without touching a stored document."""
    return {key: _copy(value) for key, value in document.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_copy(entry) for entry in value]
    return value
