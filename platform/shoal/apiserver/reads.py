"""The reading verbs: which objects a list returns, at which version, in which pages. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from shoal.apiserver.errors import bad_request, expired, not_found
from shoal.apiserver.paths import Query, RequestTarget, number
from shoal.apiserver.selectors import Selector
from shoal.apiserver.state import Key, ObjectRecord
from shoal.apiserver.store import ObjectStore

MAX_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a list: its objects, the version they are of, and how to go on."""

    records: list[ObjectRecord]
    version: int
    continuation: str = ""
    remaining: int = 0


def get(store: ObjectStore, target: RequestTarget) -> ObjectRecord:
    """Return one object.

    Raises:
        ApiError: 404.
    """
    record = store.state.get(Key(target.kind.resource, target.namespace, target.name))
    if record is None:
        raise not_found(target.kind.plural, target.kind.group, target.name)
    return record


def list_page(store: ObjectStore, target: RequestTarget, selector: Selector, query: Query) -> Page:
    """Return the page of a list that `query` asks for (limit, continue, resourceVersion, resourceVersionMatch).

    Pages of one list are of one version: what changed since is undone from the change log.

    Raises:
        ApiError: 400 for parameters that make no sense, 410 when the version is too old, 504 when it is in the future.
    """
    limit = number(query, "limit") or 0
    token = query.get("continue", "")
    version, after = _position(store, query, token)
    objects = store.history.objects_at(version, target.kind.resource, store.state)
    keys = sorted(key for key in objects if not target.namespace or key.namespace == target.namespace)
    if after is not None:
        keys = [key for key in keys if (key.namespace, key.name) > after]
    records = [objects[key] for key in keys]
    if not selector.everything:
        records = [record for record in records if selector.matches(record.document)]
    size = min(limit, MAX_PAGE) or len(records)
    page = records[:size]
    if len(records) <= size:
        return Page(page, version)
    return Page(page, version, _token(version, page[-1].key), len(records) - size)


def _position(store: ObjectStore, query: Query, token: str) -> tuple[int, tuple[str, str] | None]:
    current = store.state.version
    match = query.get("resourceVersionMatch", "")
    if match not in ("", "Exact", "NotOlderThan"):
        raise bad_request(f'resourceVersionMatch: Unsupported value: "{match}": use Exact or NotOlderThan')
    asked = number(query, "resourceVersion")
    if token:
        if asked:
            raise bad_request("resourceVersion is forbidden together with continue: the token says which version")
        version, after = _read_token(token)
        if version < store.history.floor:
            raise expired("The provided continue parameter is too old to display a consistent list result; list again")
        store.history.check(version, current)
        return version, after
    if match and asked is None:
        raise bad_request("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match == "Exact":
        if not asked:
            raise bad_request('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')
        store.history.check(asked, current)
        return asked, None
    if asked and asked > current:
        store.history.check(asked, current)
    return current, None


def _token(version: int, last: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, last.namespace, last.name]).encode()).decode()


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        if isinstance(version, int) and isinstance(namespace, str) and isinstance(name, str):
            return version, (namespace, name)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        pass
    raise bad_request("continue key is not valid: pass the metadata.continue of the previous page unchanged")
