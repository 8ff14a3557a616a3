"""Fills names into a Prometheus query, and reads the one number it yields.

Source of the form of answers: Prometheus' HTTP API, "Instant queries" and "Expression query result formats".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

_PLACEHOLDER: Final = re.compile(r"\{\{\s*(endpoint|active|target)\s*\}\}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.:/@-]")


def fill_in(query: str, names: Mapping[str, str]) -> str:
    """The query with `{{endpoint}}`, `{{active}}` and `{{target}}` replaced.

    Names belong in quoted strings of the query. Whatever could end a string there is written as an escape, which PromQL
    takes in both kinds of quotes (Go's rules), so a name cannot become a part of the query itself.
    """
    return _PLACEHOLDER.sub(lambda found: _UNSAFE.sub(_escaped, names[found.group(1)]), query)


def _escaped(found: re.Match[str]) -> str:
    return f"\\U{ord(found.group()):08x}"


def sample_of(data: Any) -> float:
    """The value of the first sample of a vector, or of a scalar; it may be infinite.

    Raises:
        ValueError: there is none, or it is no number; the message says so.
    """
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    match kind, result:
        case "vector", []:
            raise ValueError("the query found nothing")
        case "vector", [{"value": [_, str(text)]}, *_]:
            pass
        case "scalar", [_, str(text)]:
            pass
        case _:
            raise ValueError(f"the query must yield a vector or a scalar, this one yields {kind or 'nothing'}")
    try:
        value = float(text)
    except ValueError:
        raise ValueError("the query yields no number") from None
    if math.isnan(value):
        raise ValueError("the query yields NaN")
    return value
