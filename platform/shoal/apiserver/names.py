"""What a name, a label and an annotation may look like (Kubernetes' DNS-1123, DNS-1035 and qualified-name rules)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from shoal.apiserver.errors import StatusCause

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_MAX_ANNOTATIONS_BYTES = 256 * 1024

NameRule = Callable[[str], str | None]


def subdomain(name: str) -> str | None:
    """Return what is wrong with `name` as a DNS-1123 subdomain, or None."""
    if len(name) > 253:
        return "must be no more than 253 characters"
    if not _SUBDOMAIN.fullmatch(name):
        return (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'example.com')"
        )
    return None


def label(name: str) -> str | None:
    """Return what is wrong with `name` as a DNS-1123 label, or None."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    if not _LABEL.fullmatch(name):
        return (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
            "and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')"
        )
    return None


def label_1035(name: str) -> str | None:
    """Return what is wrong with `name` as a DNS-1035 label (Services), or None."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    if not _LABEL_1035.fullmatch(name):
        return (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
            "start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name')"
        )
    return None


def qualified_name(key: str) -> str | None:
    """Return what is wrong with the key of a label or annotation, or None."""
    prefix, slash, name = key.rpartition("/")
    if slash and (problem := subdomain(prefix)):
        return f"prefix part {problem}"
    if not name or len(name) > 63 or not _QUALIFIED.fullmatch(name):
        return (
            "name part must be 1 to 63 characters of alphanumerics, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyName' or 'my.name')"
        )
    return None


def label_value(value: str) -> str | None:
    """Return what is wrong with the value of a label, or None."""
    if value and (len(value) > 63 or not _QUALIFIED.fullmatch(value)):
        return (
            "a valid label must be an empty string or at most 63 characters of alphanumerics, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue' or '12345')"
        )
    return None


def metadata_causes(metadata: dict[str, Any], rule: NameRule) -> Iterator[StatusCause]:
    """Yield what is wrong with the name, labels, annotations, finalizers and owners in `metadata`."""
    name = metadata.get("name", "")
    if not name:
        yield StatusCause("metadata.name", "Required value: name or generateName is required", "FieldValueRequired")
    elif problem := rule(name):
        yield StatusCause("metadata.name", f'Invalid value: "{name}": {problem}')
    for key, value in metadata.get("labels", {}).items():
        if problem := qualified_name(key):
            yield StatusCause("metadata.labels", f'Invalid value: "{key}": {problem}')
        if problem := label_value(value):
            yield StatusCause("metadata.labels", f'Invalid value: "{value}": {problem}')
    annotations = metadata.get("annotations", {})
    for key in annotations:
        if problem := qualified_name(key.lower()):
            yield StatusCause("metadata.annotations", f'Invalid value: "{key}": {problem}')
    if sum(len(key) + len(value) for key, value in annotations.items()) > _MAX_ANNOTATIONS_BYTES:
        yield StatusCause("metadata.annotations", f"Too long: may not be more than {_MAX_ANNOTATIONS_BYTES} bytes")
    for finalizer in metadata.get("finalizers", []):
        if problem := qualified_name(finalizer):
            yield StatusCause("metadata.finalizers", f'Invalid value: "{finalizer}": {problem}')
    yield from _owner_causes(metadata.get("ownerReferences", []))


def _owner_causes(owners: list[dict[str, Any]]) -> Iterator[StatusCause]:
    for index, owner in enumerate(owners):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield StatusCause(f"metadata.ownerReferences[{index}].{field}", "Required value", "FieldValueRequired")
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        yield StatusCause(
            "metadata.ownerReferences", "Invalid value: only one reference can have controller set to true"
        )
