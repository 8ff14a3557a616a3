"""Rollouts as JSON and back: a document of their fields, enums by value, steps with their kind.

Fields of a newer version are ignored, fields an older version did not write have their defaults, so that both can read
what the other wrote.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, NewType, Union, cast, get_args, get_origin, get_type_hints

from shoal.core.rollout.plan import Analyse, Pause, Plan, SetShadow, SetWeight
from shoal.core.rollout.record import PAUSED, Phase, Rollout

_KIND: Final = "kind"
_STEPS: Final[Mapping[str, type]] = {
    "setWeight": SetWeight,
    "setShadow": SetShadow,
    "pause": Pause,
    "analysis": Analyse,
}
_KINDS: Final = {step: kind for kind, step in _STEPS.items()}


def to_document(rollout: Rollout) -> dict[str, Any]:
    """A rollout as a JSON document."""
    return cast("dict[str, Any]", _encode(rollout))


def plan_document(plan: Plan) -> dict[str, Any]:
    """A plan as a JSON document."""
    return cast("dict[str, Any]", _encode(plan))


def from_document(document: Any) -> Rollout:
    """Read a rollout.

    Raises:
        ValueError: it is none, or says what this version does not know; the message names the field.
    """
    if (
        isinstance(document, dict) and document.get("phase") == PAUSED
    ):  # versions before 0.2: a phase, and the one before
        document = {**document, "phase": document.get("paused_from") or Phase.PROGRESSING.value, "paused": True}
    return cast("Rollout", _decode(Rollout, document, "rollout"))


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        document = {field.name: _encode(getattr(value, field.name)) for field in fields(value)}
        return document | ({_KIND: _KINDS[type(value)]} if type(value) in _KINDS else {})
    if isinstance(value, Enum):
        return value.value
    return [_encode(item) for item in value] if isinstance(value, tuple) else value


def _decode(kind: Any, value: Any, path: str) -> Any:
    if isinstance(kind, NewType):
        return _decode(kind.__supertype__, value, path)
    if get_origin(kind) is tuple:
        items = _decode_plain(list, value, path)
        return tuple(_decode(get_args(kind)[0], item, f"{path}[{i}]") for i, item in enumerate(items))
    if get_origin(kind) in (Union, types.UnionType):
        return _decode_union(get_args(kind), value, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _decode_enum(kind, value, path)
    return _decode_fields(kind, value, path) if is_dataclass(kind) else _decode_plain(kind, value, path)


def _decode_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    left = [kind for kind in kinds if kind is not types.NoneType]
    if len(left) == 1:
        return _decode(left[0], value, path)
    step = _STEPS.get(str(value.get(_KIND))) if isinstance(value, dict) else None
    if step is None:
        raise ValueError(f"{path}.{_KIND}: must be one of {', '.join(_STEPS)}")
    return _decode(step, value, path)


def _decode_enum(kind: type[Enum], value: Any, path: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{path}: must be one of {', '.join(str(m.value) for m in kind)}") from None


def _decode_fields(kind: Any, value: Any, path: str) -> Any:
    document = _decode_plain(dict, value, path)
    hints = _hints(kind)
    given = {name: _decode(hint, document[name], f"{path}.{name}") for name, hint in hints.items() if name in document}
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from None


def _decode_plain(kind: Any, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{path}: must be of type {kind.__name__}")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
