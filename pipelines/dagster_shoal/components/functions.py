"""Python functions named in YAML, such as `my_project.fraud.train`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import dagster as dg
from dagster import ResolutionContext


def import_function(dotted: str, field: str) -> Callable[..., Any]:
    """The function, found when definitions are loaded, so that `dg check defs` finds a wrong name.

    Args:
        dotted: `package.module.function` or `package.module:function`.
        field: for messages.

    Raises:
        ValueError: there is none; the message says which part is missing.
    """
    module_name, _, name = dotted.replace(":", ".").rpartition(".")
    if not module_name:
        raise ValueError(f"{field}: {dotted!r} names no module; write it like my_project.fraud.{name or 'train'}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{field}: there is no module {error.name!r}; install it, or correct {dotted!r}") from None
    found = getattr(module, name, None)
    if found is None or not callable(found):
        raise ValueError(f"{field}: {module_name} has no function {name!r}; correct {dotted!r}")
    return found  # type: ignore[no-any-return]


def _resolve(context: ResolutionContext, dotted: str | None) -> Callable[..., Any] | None:
    if dotted is None:
        return None
    where = ".".join(map(str, context.path)) or "function"
    return import_function(str(context.resolve_value(dotted)), where)


Function: TypeAlias = Annotated[
    Callable[..., Any],
    dg.Resolver(
        _resolve,
        model_field_type=str,
        description="A Python function as package.module.function.",
        examples=["my_project.fraud.load_data"],
    ),
]
OptionalFunction: TypeAlias = Annotated[
    Callable[..., Any] | None,
    dg.Resolver(_resolve, model_field_type=str | None, description="A Python function as package.module.function."),
]
