"""Pictures and tables for people, as metadata: PNG within Markdown, since the UI shows that on the asset itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

import dagster as dg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_LABELS = 30


def confusion(counts: NDArray[Any], labels: Sequence[str] = ()) -> dg.MarkdownMetadataValue:
    """A confusion matrix: true classes down, answers across."""
    figure, axes = _figure(4.6, 4.0)
    picture = axes.imshow(counts, cmap="Blues")
    figure.colorbar(picture, ax=axes, fraction=0.046)
    names = list(labels) or [str(index) for index in range(len(counts))]
    if len(names) <= _MAX_LABELS:
        axes.set_xticks(range(len(names)), names, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        for row, column in ((r, c) for r in range(len(counts)) for c in range(len(counts)) if counts[r][c]):
            color = "white" if counts[row][column] > counts.max() / 2 else "black"
            axes.text(column, row, str(int(counts[row][column])), ha="center", va="center", fontsize=6, color=color)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    return _markdown(figure, "confusion matrix")


def curves(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> dg.MarkdownMetadataValue:
    """Lines by name."""
    figure, axes = _figure(5.4, 3.2)
    for name, (across, up) in lines.items():
        axes.plot(across, up, label=name, marker=".", markersize=3)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    return _markdown(figure, "curves")


def bars(values: Mapping[str, Mapping[str, float]], title: str) -> dg.MarkdownMetadataValue:
    """Groups of bars: figures by what they are of, such as metrics of challenger and champion."""
    figure, axes = _figure(5.4, 3.0)
    groups = list(values)
    names = list(dict.fromkeys(name for each in values.values() for name in each))
    width = 0.8 / max(1, len(groups))
    for index, group in enumerate(groups):
        places = [place + index * width for place in range(len(names))]
        axes.bar(places, [values[group].get(name, 0.0) for name in names], width, label=group)
    middle = 0.4 - width / 2
    axes.set_xticks([place + middle for place in range(len(names))], names, fontsize=8)
    axes.legend(fontsize=7)
    axes.set_title(title, fontsize=9)
    return _markdown(figure, title)


def rollout(points: Sequence[Mapping[str, float]]) -> dg.MarkdownMetadataValue:
    """A rollout's way: weight, and error rate and p99 of the new revision, over seconds."""
    figure, axes = _figure(6.0, 3.2)
    seconds = [point["seconds"] for point in points]
    axes.step(seconds, [point["weight"] for point in points], where="post", label="weight, %")
    axes.plot(seconds, [100 * point.get("error_rate", 0.0) for point in points], label="errors, %", color="tab:red")
    axes.set_xlabel("seconds")
    axes.set_ylim(-2, 104)
    beside = axes.twinx()
    beside.plot(seconds, [point.get("p99_ms", 0.0) for point in points], label="p99, ms", color="tab:green", alpha=0.7)
    beside.set_ylim(bottom=0)
    axes.legend(fontsize=7, loc="upper left")
    beside.legend(fontsize=7, loc="lower right")
    return _markdown(figure, "rollout")


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """A table with one column a key of the first row."""
    records = [dg.TableRecord({name: _cell(value) for name, value in row.items()}) for row in rows]
    names = list(rows[0]) if rows else ["nothing"]
    return dg.MetadataValue.table(records, schema=dg.TableSchema([dg.TableColumn(name) for name in names]))


def _cell(value: Any) -> str | int | float | bool:
    if value is None:
        return ""
    return value if isinstance(value, str | int | float | bool) else str(value)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # Without pyplot: that keeps figures for ever, and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def _markdown(figure: Figure, title: str) -> dg.MarkdownMetadataValue:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(data.getvalue()).decode()})")
