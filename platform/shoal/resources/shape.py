"""The base of all resource models and the small value types they share.

Models are strict, as the Kubernetes API is: a number is not a string, and unknown fields are errors.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, PlainValidator, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

_QUANTITY = re.compile(r"^([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?$")
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


class Shape(BaseModel):
    """A part of a manifest. Fields are snake_case here and camelCase in manifests."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True)


class Unused:
    """Marks a field that KServe has and that has no effect for models served by Shoal."""


def parse_quantity(quantity: str | float) -> Decimal:
    """The value of a Kubernetes quantity such as `1Gi`, `500m` or `2`.

    Raises:
        ValueError: it is not a quantity.
    """
    found = _QUANTITY.match(str(quantity))
    if found is None:
        raise ValueError(f"{quantity!r} is not a quantity such as 500m, 2 or 1Gi")
    number, suffix, exponent = found.groups()
    return Decimal(number) * (_SUFFIXES[suffix] if suffix else Decimal(10) ** int(exponent or 0))


def _quantity(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise PydanticCustomError("quantity", "must be a quantity such as 500m, 2 or 1Gi")
    try:
        parse_quantity(value)
    except ValueError:
        raise PydanticCustomError(
            "quantity", "{value} is not a quantity such as 500m, 2 or 1Gi", {"value": repr(value)}
        ) from None
    return str(value)


def _int_or_string(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise PydanticCustomError("int_or_string", "must be a number or a name")
    return value


Quantity: TypeAlias = Annotated[str, PlainValidator(_quantity), WithJsonSchema({"x-kubernetes-int-or-string": True})]
IntOrString: TypeAlias = Annotated[
    int | str, PlainValidator(_int_or_string), WithJsonSchema({"x-kubernetes-int-or-string": True})
]
Opaque: TypeAlias = Annotated[
    dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]
"""An object of the Kubernetes API that Shoal hands on without looking into it."""
Ignored: TypeAlias = Annotated[
    Any,
    Unused(),
    WithJsonSchema(
        {
            "x-kubernetes-preserve-unknown-fields": True,
            "description": "Known to KServe; has no effect in ModelMesh mode.",
        }
    ),
]
