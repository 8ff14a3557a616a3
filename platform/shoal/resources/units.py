"""Durations and percentages as manifests write them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `5m`, `1h` or `1h30m`.

    Raises:
        ValueError: it is no duration.
    """
    if len(text) > 40 or not _DURATION.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a duration such as 30s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _duration(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    try:
        return parse_duration(value if isinstance(value, str) else "")
    except ValueError:
        shown = {"value": repr(value)[:60]}
        message = 'must be a duration such as "30s", "5m" or "1h", or a number of seconds, not {value}'
        raise PydanticCustomError("duration", message, shown) from None


def _percent(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        shown = {"value": repr(value)[:60]}
        raise PydanticCustomError("percent", "must be a number from 0 to 100 (percent), not {value}", shown)
    if (Decimal(str(value)) * 10) % 1:
        raise PydanticCustomError(
            "percent", "{value} has more than one decimal; round it, such as 12.5", {"value": repr(value)}
        )
    return float(value)


Duration: TypeAlias = Annotated[float, PlainValidator(_duration), WithJsonSchema({"x-kubernetes-int-or-string": True})]
"""Seconds; in manifests a text such as `30s`, or a number of seconds."""
Percent: TypeAlias = Annotated[
    float, PlainValidator(_percent), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 100})
]
"""0 to 100 with at most one decimal."""
