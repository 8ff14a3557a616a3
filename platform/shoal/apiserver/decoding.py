"""Bytes of a request into a JSON document, strictly.

Duplicate keys are remembered (strict field validation reports them with their path), values that JSON cannot hold are
refused, and neither deep nesting nor YAML aliases can be used to exhaust the server: whatever is wrong is a 400.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Hashable
from typing import Any

import yaml

from shoal.apiserver import protobuf
from shoal.apiserver.errors import ApiError, bad_request, unsupported_media_type

MAX_NODES = 400_000
MAX_DEPTH = 100
JSON_TYPES = ("application/json", "application/yaml")


class _Duplicates(dict[str, Any]):
    """A mapping that was written with the same key twice; the last value won, as in Go."""

    repeated: tuple[str, ...] = ()


def decode(body: bytes, content_type: str) -> tuple[Any, list[str]]:
    """Return the document in `body` and the paths of its duplicate fields.

    Raises:
        ApiError: 400 for text that is not JSON or YAML, 415 for any other media type.
    """
    media_type = content_type.partition(";")[0].strip().lower() or "application/json"
    if media_type in ("application/yaml", "application/apply-patch+yaml", "text/yaml"):
        document = _from_yaml(body)
    elif media_type == "application/json" or media_type.endswith("+json"):
        document = _from_json(body)
    else:
        raise unsupported_media_type(content_type, JSON_TYPES)
    duplicates: list[str] = []
    return _plain(document, "", duplicates, [MAX_NODES], MAX_DEPTH), duplicates


def decode_object(body: bytes, content_type: str) -> tuple[dict[str, Any], list[str]]:
    """Like `decode`, for a body that must be one object."""
    if content_type.startswith(protobuf.MEDIA_TYPE):
        return protobuf.decode(body), []
    document, duplicates = decode(body, content_type)
    if not isinstance(document, dict):
        raise bad_request(f"the body must be one JSON object, not {_type_name(document)}")
    return document, duplicates


def _from_json(body: bytes) -> Any:
    try:
        return json.loads(body, object_pairs_hook=_pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is not valid JSON: {_first_line(error)}") from None


def _from_yaml(body: bytes) -> Any:
    # Most clients send JSON under YAML's name, and libyaml refuses JSON's surrogate pairs.
    if body.lstrip()[:1] == b"{":
        with contextlib.suppress(ApiError):
            return _from_json(body)
    try:
        _check_depth(body)
        return yaml.load(body, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise bad_request(f"the body is not valid YAML: {_first_line(error)}") from None


def _check_depth(body: bytes) -> None:
    """Refuse deep nesting before libyaml's composer recurses into it on the C stack, which would end the process."""
    depth = 0
    for event in yaml.parse(body, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise bad_request(f"the body is nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) == len(pairs):
        return document
    marked = _Duplicates(document)
    seen: set[str] = set()
    marked.repeated = tuple({key: None for key, _ in pairs if key in seen or seen.add(key)})  # type: ignore[func-returns-value]
    return marked


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _first_line(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {MAX_DEPTH} levels"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).partition("\n")[0]


def _plain(value: Any, path: str, duplicates: list[str], budget: list[int], depth: int) -> Any:
    """Return `value` as plain JSON types; count nodes, since a YAML alias may repeat a subtree without bound."""
    budget[0] -= 1
    if budget[0] < 0:
        raise bad_request(f"the body has more than {MAX_NODES} values")
    if depth < 0:
        raise bad_request(f"the body is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        if isinstance(value, _Duplicates):
            duplicates.extend(f"{path}.{key}".lstrip(".") for key in value.repeated)
        return {
            str(key): _plain(item, f"{path}.{key}" if path else str(key), duplicates, budget, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_plain(item, f"{path}[{index}]", duplicates, budget, depth - 1) for index, item in enumerate(value)]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise bad_request(f"{path}: {value} is not a JSON value")
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        raise bad_request(f"{path}: the number does not fit 64 bits")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise bad_request(f"{path}: a {_type_name(value)} is not a JSON value")


def _type_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: timestamps stay strings, keys become strings, duplicate keys are remembered."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    pairs: list[tuple[str, Any]] = []
    for key_node, value_node in node.value:
        key: Hashable = loader.construct_object(key_node, deep=True)
        if isinstance(key, bool):
            key = str(key).lower()
        if not isinstance(key, (str, int, float)):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a string", key_node.start_mark)
        pairs.append((str(key), loader.construct_object(value_node, deep=True)))
    return _pairs(pairs)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1 reads 1e3 as a string; Kubernetes, like YAML 1.2, reads a number.
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
