"""Label and field selectors: parse once, then test objects.

Grammar: the label selectors of the Kubernetes documentation (equality and set forms) and the field selector forms
`path=value`, `path==value`, `path!=value`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from shoal.apiserver import names
from shoal.apiserver.errors import bad_request

MAX_SELECTOR_CHARS = 16_384
_REQUIREMENT = re.compile(
    r"\s*(?:(?P<absent>!)\s*(?P<absent_key>[^\s,()=!]+)"
    r"|(?P<key>[^\s,()=!]+)(?:\s*(?P<op>==|=|!=)\s*(?P<value>[^\s,()=!]*)"
    r"|\s+(?P<set_op>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: the value under `key` must (or, negated, must not) be among `values`; None means any value."""

    key: str
    values: frozenset[str] | None
    negated: bool = False

    def admits(self, value: str | None) -> bool:
        """Return whether an object with `value` (None: no such key) satisfies the term."""
        found = value is not None and (self.values is None or value in self.values)
        return found != self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """Which objects a list or watch is about."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def matches(self, document: dict[str, Any]) -> bool:
        """Return whether `document` satisfies every term."""
        if self.labels:
            own = document["metadata"].get("labels") or {}
            if not all(term.admits(own.get(term.key)) for term in self.labels):
                return False
        return all(term.admits(field_value(document, term.key)) for term in self.fields)

    @property
    def everything(self) -> bool:
        """Whether there is no term at all."""
        return not (self.labels or self.fields)


def field_value(document: dict[str, Any], path: str) -> str:
    """Return the value at a dotted `path` as a selector sees it (absent is the empty string)."""
    value: Any = document
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse(labels: str, fields: str, selectable: frozenset[str]) -> Selector:
    """Parse both selectors of a request; `selectable` are the field paths the kind allows.

    Raises:
        ApiError: 400 that names the term which is not understood.
    """
    if len(labels) + len(fields) > MAX_SELECTOR_CHARS:
        raise bad_request(f"selectors may not be longer than {MAX_SELECTOR_CHARS} characters together")
    return Selector(parse_labels(labels), _parse_fields(fields, selectable))


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Parse a label selector, e.g. `app=web,tier in (a, b),!legacy`."""
    terms: list[Requirement] = []
    position = 0
    while text[position:].strip():
        match = _REQUIREMENT.match(text, position)
        if match is None or match.end() == position:
            raise bad_request(f"unable to parse requirement: unexpected text {text[position:]!r} in labelSelector")
        terms.append(_label_requirement(match))
        position = match.end()
    return tuple(terms)


def _label_requirement(match: re.Match[str]) -> Requirement:
    key = match["absent_key"] or match["key"]
    if problem := names.qualified_name(key):
        raise bad_request(f'unable to parse requirement: key: Invalid value: "{key}": {problem}')
    if match["absent"]:
        return Requirement(key, None, negated=True)
    if match["op"]:
        return Requirement(key, _checked([match["value"]]), negated=match["op"] == "!=")
    if match["set_op"]:
        return Requirement(key, _checked(match["values"].split(",")), negated=match["set_op"] == "notin")
    return Requirement(key, None)


def _checked(values: list[str]) -> frozenset[str]:
    stripped = [value.strip() for value in values]
    for value in stripped:
        if problem := names.label_value(value):
            raise bad_request(f'unable to parse requirement: values: Invalid value: "{value}": {problem}')
    return frozenset(stripped)


def _parse_fields(text: str, selectable: frozenset[str]) -> tuple[Requirement, ...]:
    terms: list[Requirement] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid field selector {part!r}: write path=value or path!=value")
        path, operator, value = match[1].strip(), match[2], match[3].strip()
        if path not in selectable:
            allowed = ", ".join(sorted(selectable))
            raise bad_request(f'field label not supported: "{path}"; this kind can be selected by {allowed}')
        terms.append(Requirement(path, frozenset([value]), negated=operator == "!="))
    return tuple(terms)
