"""Reading a manifest into a model, or saying everything that is wrong with it at once."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from shoal.resources.problems import FieldProblem, InvalidManifest
from shoal.resources.shape import Unused

MAX_PROBLEMS = 50
"""More are not reported: nobody reads them, and a manifest may be large."""

_Model = TypeVar("_Model", bound=BaseModel)
_Path = tuple[str | int, ...]
_MAX_NAMED = 12
"""Of more fields than so many the names are not listed."""
_TYPE_NAMES = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}


def read(model: type[_Model], document: object, *, what: str) -> _Model:
    """The document as a model.

    Raises:
        InvalidManifest: with every wrong field.
    """
    try:
        return model.model_validate(without_nulls(document))
    except ValidationError as error:
        raise InvalidManifest(what, problems_of(model, error)) from None


def problems_of(model: type[BaseModel], error: ValidationError) -> list[FieldProblem]:
    """What pydantic found, in the words of a manifest's author."""
    found = error.errors(include_url=False, include_context=True)
    return [_problem(model, details) for details in found[:MAX_PROBLEMS]]


def without_nulls(document: Any) -> Any:
    """Null means absent in a manifest, as in the Kubernetes API."""
    if isinstance(document, Mapping):
        return {key: without_nulls(value) for key, value in document.items() if value is not None}
    if isinstance(document, list):
        return [without_nulls(value) for value in document]
    return document


def dotted(path: Iterable[str | int]) -> str:
    """`("spec", "containers", 0, "name")` as `spec.containers[0].name`; keys with dots are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "." in part or "/" in part:
            text += f'["{part}"]'
        else:
            text += f".{part}" if text else part
    return text or "(the whole document)"


def unused_fields(value: BaseModel, path: _Path = ()) -> list[FieldProblem]:
    """The fields that are set and have no effect, for warnings."""
    found: list[FieldProblem] = []
    for name, info in type(value).model_fields.items():
        if name not in value.model_fields_set:
            continue
        here = (*path, info.alias or name)
        item = getattr(value, name)
        if any(isinstance(mark, Unused) for mark in info.metadata):
            found.append(FieldProblem(dotted(here), "has no effect in ModelMesh mode"))
        elif isinstance(item, BaseModel):
            found += unused_fields(item, here)
    return found


def _problem(model: type[BaseModel], details: ErrorDetails) -> FieldProblem:
    path, kind = details["loc"], details["type"]
    where = dotted(path)
    if kind == "extra_forbidden":
        return FieldProblem(
            where, "unknown field", instead_of(str(path[-1]), _fields_at(model, path[:-1])), unknown=True
        )
    if kind == "missing":
        return FieldProblem(where, "is required", "add it")
    if kind in _TYPE_NAMES:
        return FieldProblem(where, f"must be {_TYPE_NAMES[kind]}, not {_shown(details['input'])}", _fix(model, details))
    if kind == "literal_error":
        expected = details["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        said = f"must be one of {', '.join(expected)}, not {_shown(details['input'])}"
        return FieldProblem(where, said, _similar(details["input"], expected))
    return FieldProblem(where, details["msg"][0].lower() + details["msg"][1:])


def _similar(given: object, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(given), known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def _fix(model: type[BaseModel], details: ErrorDetails) -> str:
    given = details["input"]
    if details["type"] == "model_type":
        return _as_object(given, _fields_at(model, details["loc"]))
    if details["type"] == "string_type" and isinstance(given, int | float):
        if examples := _examples_at(model, details["loc"]):
            return f"write it like {examples[0]}"
        text = str(given).lower() if isinstance(given, bool) else str(given)
        return f'write it in quotes: "{text}"'
    if details["type"] in ("int_type", "bool_type") and isinstance(given, str):
        return "write it without quotes"
    return ""


def _as_object(given: object, known: Collection[str]) -> str:
    """What to write where fields of an object are expected and something else was given."""
    if len(known) == 1 and isinstance(given, str | int | float) and not isinstance(given, bool):
        return f"write {{{next(iter(known))}: {given}}}"
    names = _named(known)
    return f"write an object; known there: {names}" if names else ""


def _named(known: Collection[str]) -> str:
    """The names, where they are few enough to be read."""
    return ", ".join(sorted(known)) if len(known) <= _MAX_NAMED else ""


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def instead_of(unknown: str, known: Collection[str]) -> str:
    """What to do about a field that does not exist, where those in `known` do."""
    close = difflib.get_close_matches(unknown, known, n=1, cutoff=0.6)
    lower = {name.lower(): name for name in known}
    same = lower.get(unknown.lower().replace("_", "").replace("-", ""))
    if same or close:
        return f"did you mean {same or close[0]!r}?"
    names = _named(known)
    return f"remove it; known here: {names}" if names else "remove it"


def _fields_at(model: type[BaseModel], path: _Path) -> list[str]:
    """Names of the fields a model has at a path, for suggestions."""
    here = _model_at(model, path)
    return [info.alias or name for name, info in here.model_fields.items()] if here else []


def _examples_at(model: type[BaseModel], path: _Path) -> list[Any]:
    """How the value of a field looks, where its text has a form of its own."""
    here = _model_at(model, path[:-1])
    info = _field(here, str(path[-1])) if here else None
    return (info.examples if info else None) or []


def _model_at(model: type[BaseModel], path: _Path) -> type[BaseModel] | None:
    here: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or here is None:
            continue
        info = _field(here, part)
        here = _model_in(info.annotation) if info else None
    return here


def _field(model: type[BaseModel], alias: str) -> FieldInfo | None:
    return next((info for name, info in model.model_fields.items() if alias in (info.alias, name)), None)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := _model_in(argument)) is not None:
            return found
    return None
