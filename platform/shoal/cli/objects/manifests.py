"""Reads manifests from files, directories and standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from shoal.cli.errors import CliError
from shoal.cluster.kube_client import Object

_SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16 * 1024 * 1024
"""A manifest file larger than this is refused: it is most likely something else."""


def read_manifests(files: Sequence[str]) -> list[tuple[str, Object]]:
    """Every object of the files, with where it is from; `List` objects are taken apart.

    Raises:
        CliError: a file cannot be read, is not YAML, or holds something that is not an object.
    """
    found = [
        (where, document) for name in files for where, text in _texts(name) for document in _documents(where, text)
    ]
    if not found:
        raise CliError(f"{', '.join(files)}: no objects in there")
    return found


def _texts(name: str) -> Iterator[tuple[str, str]]:
    if name == "-":
        yield "standard input", _read_stdin()
        return
    if "://" in name:
        raise CliError(
            f"{name}: manifests are not fetched from URLs; download it and apply the file, or pipe it to -f -"
        )
    path = Path(name)
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if child.suffix in _SUFFIXES:
                yield str(child), _read(child)
        return
    yield str(path), _read(path)


def _read_stdin() -> str:
    try:
        text = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise CliError(f"standard input is larger than {MAX_BYTES // 1024 // 1024} MiB: that is no manifest")
        return text.decode()
    except UnicodeDecodeError:
        raise CliError("standard input is not text") from None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CliError(f"{path} is larger than {MAX_BYTES // 1024 // 1024} MiB: that is no manifest")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: {getattr(error, 'strerror', None) or 'is not text'}") from None


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key that is given twice, of which YAML would silently take the last."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[object, object]:
    seen: set[object] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value
    }


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# Timestamps stay the text they are: JSON has no such type.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _documents(where: str, text: str) -> Iterator[Object]:
    try:
        documents = list(yaml.load_all(text, _StrictLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise CliError(f"{where}:{line} {getattr(error, 'problem', None) or error}") from None
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise CliError(f"{where}: a manifest is a mapping, this is {type(document).__name__}")
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            yield from (_checked(where, item) for item in document["items"])
        else:
            yield _checked(where, document)


def _checked(where: str, document: Object) -> Object:
    if not isinstance(document, dict):
        raise CliError(f"{where}: a List holds something that is not an object")
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str):
            raise CliError(f"{where}: {field} is missing")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise CliError(f"{where}: {document['kind']}: metadata.name is missing")
    return document
