"""How answers are printed: tables as kubectl's, YAML, JSON, names."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import typer


class OutputFormat(StrEnum):
    """Values of `-o`."""

    TABLE = "table"
    WIDE = "wide"
    YAML = "yaml"
    JSON = "json"
    NAME = "name"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns three spaces apart, without trailing blanks."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def as_yaml(document: Any) -> str:
    """YAML in the order given."""
    import yaml

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120).rstrip()


def as_json(document: Any) -> str:
    """Indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def show(text: str) -> None:
    """Print to standard output."""
    typer.echo(text)


def note(text: str) -> None:
    """Print to standard error: progress and remarks that are no result."""
    typer.echo(text, err=True)


def interactive() -> bool:
    """Whether a person watches standard output."""
    return sys.stdout.isatty()


def age(seconds: float) -> str:
    """A duration in one unit, coarser the longer it is, such as `51m` or `2d`."""
    for limit, size, unit in ((120, 1, "s"), (3 * 3600, 60, "m"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{max(0, int(seconds // size))}{unit}"
    return f"{int(seconds // 86400)}d"


def age_of(stamp: str | float | None, now: float | None = None) -> str:
    """The time since a timestamp (ISO 8601 or seconds), `<none>` without one."""
    if not stamp:
        return "<none>"
    then = datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() if isinstance(stamp, str) else stamp
    return age((now if now is not None else datetime.now(UTC).timestamp()) - then)


def size(count: float) -> str:
    """Bytes for people, such as `1.2 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def bar(share: float, width: int = 20) -> str:
    """An occupancy bar; a share above 1 is shown full."""
    filled = round(max(0.0, min(1.0, share)) * width)
    return "█" * filled + "░" * (width - filled)
