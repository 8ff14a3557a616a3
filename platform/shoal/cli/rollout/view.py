"""How a rollout looks on a terminal: steps, both revisions side by side, checks, timeline."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from shoal.cli.output import age, show
from shoal.client.reports import CheckReport, PastRollout, RevisionReport, RolloutReport

_PHASES = {
    "Succeeded": "green",
    "RolledBack": "red",
    "Superseded": "dim",
    "Paused": "yellow",
}
_VERDICTS = {"Pass": "green", "Fail": "red", "Inconclusive": "yellow", "Waiting": "dim"}
_NUMBERS = ("WEIGHT", "REQUESTS", "ERRORS", "ERROR RATE", "P50", "P90", "P99", "COMPARED", "DISAGREED", "VALUE",
            "ACTIVE", "SAMPLES", "AGE", "LASTED")  # fmt: skip
_MOST_ENTRIES = 20
_ROOMY = frozenset({"BY", "LIMIT", "MESSAGE", "REASON", "WHY"})
"""Columns of words, which are wrapped before others."""
_LONGEST_MESSAGE = 120
"""Characters of one line of many rollouts; `shoal rollout status` tells all."""
_WIDTH = 160
"""Columns where nobody looks at a terminal."""
_FRACTIONS = ("errorRate", "disagreementRate", "scoreDrift")


def printed(what: RenderableType) -> None:
    """Print to standard output, in colour if that is a terminal."""
    console = Console()
    if console.is_terminal:
        console.print(what)
    else:
        show(plain(what))


def plain(what: RenderableType) -> str:
    """As text without colour, to stand in other text."""
    console = Console(width=_WIDTH, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip()


def whole(report: RolloutReport) -> Group:
    """Everything about one rollout."""
    parts: list[RenderableType] = [_head(report)]
    if report.steps:
        parts += [Text(), _steps(report)]
    if report.revisions:
        parts += [Text(), _revisions(report)]
    if report.checks:
        parts += [Text(), _checks(report)]
    if report.timeline:
        parts += [Text(), _timeline(report)]
    if hint := _next(report):
        parts += [Text(), Text(hint, style="dim")]
    return Group(*parts)


def line(report: RolloutReport) -> str:
    """One rollout in one line."""
    words = [f"rollout {report.id} of {report.name}: {report.phase}", f"{_percent(report.weight)} on {report.target}"]
    if report.live and report.step_words:
        words.append(f"step {report.step_words}")
    if report.reason:
        words.append(report.reason)
    return ", ".join(words)


def overview(reports: Sequence[RolloutReport]) -> Table:
    """Many rollouts, one a line."""
    view = _table("NAME", "ROLLOUT", "PHASE", "STRATEGY", "WEIGHT", "STEP", "REVISION", "AGE", "BY", "MESSAGE")
    for report in reports:
        view.add_row(
            report.name,
            report.id,
            _phase(report.phase),
            report.strategy,
            _percent(report.weight),
            report.step_words,
            _hash(report.target),
            age(_now(report) - report.started),
            report.by,
            _shortened(report.reason),
        )
    return view


def history(report: RolloutReport) -> Group:
    """The newest rollout and those before it, and what can be gone back to."""
    view = _table("ROLLOUT", "PHASE", "FROM", "TO", "STRATEGY", "AGE", "LASTED", "BY", "REASON")
    entries: list[RolloutReport | PastRollout] = [report, *report.history]
    for entry in entries:
        lasted = age(entry.ended - entry.started) if entry.ended else ""
        view.add_row(
            entry.id,
            _phase(entry.phase),
            _hash(entry.active),
            _hash(entry.target),
            entry.strategy,
            age(_now(report) - entry.started),
            lasted,
            entry.by,
            entry.reason,
        )
    kept = ", ".join(report.retained) or "none"
    return Group(view, Text(), Text(f"Kept, so that going back is instant: {kept}", style="dim"))


def clock(at: float) -> str:
    """A time of day here."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def _head(report: RolloutReport) -> Text:
    now = _now(report)
    text = Text()
    text.append(report.name, style="bold").append(f"  rollout {report.id}  {report.strategy}  ")
    text.append_text(_phase(report.phase)).append(f"  {_percent(report.weight)} of requests on the new revision")
    if report.shadow:
        text.append(f", {_percent(report.shadow)} shadowed")
    text.append("\n")
    told = [f"started {age(now - report.started)} ago" + (f" by {report.by}" if report.by else "")]
    if report.ended:
        told.append(f"ended after {age(report.ended - report.started)}")
    elif report.deadline:
        told.append(f"deadline in {age(report.deadline - now)}")
    text.append(", ".join(told), style="dim")
    if report.reason:
        text.append("\n").append(report.reason, style=_PHASES.get(report.phase, ""))
    return text


def _steps(report: RolloutReport) -> Text:
    text = Text()
    for number, step in enumerate(report.steps):
        done = number < report.step or report.succeeded
        here = number == report.step and report.live and report.phase not in ("Loading", "WarmingUp")
        mark, style = ("✓", "green") if done else ("▶", "bold") if here else (" ", "dim")
        text.append(f" {mark} {number + 1:>2}  {step}", style=style)
        if here and report.step_since:
            text.append(f"   since {age(_now(report) - report.step_since)}", style="dim")
        text.append("\n" if number + 1 < len(report.steps) else "")
    return text


def _revisions(report: RolloutReport) -> Table:
    compared = any(seen.compared for seen in report.revisions.values())
    more = ("COMPARED", "DISAGREED") if compared else ()
    view = _table("REVISION", "ROLE", "WEIGHT", "REQUESTS", "ERRORS", "ERROR RATE", "P50", "P90", "P99", *more)
    old, new = ("before", "active") if report.succeeded else ("active", "new")
    rows = ((report.active, old, 100.0 - report.weight), (report.target, new, report.weight))
    for revision, role, weight in rows:
        seen = report.revisions.get(revision) or RevisionReport()
        view.add_row(revision, role, _percent(weight), *_figures(seen), *(_compared(seen) if compared else ()))
    return view


def _figures(seen: RevisionReport) -> Iterator[str]:
    yield f"{seen.requests:,}"
    yield f"{seen.errors:,}"
    yield "-" if seen.error_rate is None else f"{seen.error_rate:.2%}"
    for value in (seen.p50_ms, seen.p90_ms, seen.p99_ms):
        yield "-" if value is None else f"{value:.3g} ms"


def _compared(seen: RevisionReport) -> Iterator[str]:
    yield f"{seen.compared:,}"
    yield "-" if seen.disagreement_rate is None else f"{seen.disagreement_rate:.2%}"


def _checks(report: RolloutReport) -> Table:
    view = _table("CHECK", "METRIC", "VERDICT", "VALUE", "ACTIVE", "LIMIT", "SAMPLES", "WHY")
    for check in report.checks:
        view.add_row(
            check.name,
            check.metric,
            Text(check.verdict, style=_VERDICTS.get(check.verdict, "")),
            _value(check, check.value),
            _value(check, check.baseline),
            check.limit,
            f"{check.samples:,}",
            check.message,
        )
    return view


def _value(check: CheckReport, value: float | None) -> str:
    if value is None:
        return "-"
    if check.metric == "latency":
        return f"{value:.3g} ms"
    return f"{value:.4f}" if check.metric in _FRACTIONS else f"{value:g}"


def _timeline(report: RolloutReport) -> Text:
    text = Text("TIMELINE", style="dim")
    begun = report.timeline[0].at  # a retried rollout started later than that
    for entry in report.timeline[-_MOST_ENTRIES:]:
        text.append(f"\n {clock(entry.at)}  +{age(entry.at - begun):<5} ", style="dim").append(entry.what)
    return text


def _next(report: RolloutReport) -> str:
    """What can be done now."""
    name = report.name
    if report.phase == "Paused":
        verbs = ("Go on", "resume"), ("Take over", "promote"), ("Back", "abort")
        return "   ".join(f"{words}: shoal rollout {verb} {name}" for words, verb in verbs)
    if report.phase == "RolledBack":
        return f"Again: shoal rollout retry {name}   Declare the active revision: shoal rollout undo {name}"
    if report.phase == "Succeeded" and report.retained:
        return f"Back to {report.retained[0]}: shoal rollout undo {name}"
    return ""


def _table(*columns: str) -> Table:
    view = Table(box=None, pad_edge=False, header_style="dim")
    narrow = not _ROOMY.isdisjoint(columns)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in _NUMBERS else "left"
        view.add_column(column, justify=justify, overflow="fold", no_wrap=narrow and column not in _ROOMY)
    return view


def _phase(phase: str) -> Text:
    return Text(phase, style=_PHASES.get(phase, "bold"))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 1]}…"


def _percent(value: float) -> str:
    return f"{value:.4g}%"


def _hash(revision: str) -> str:
    return revision.rpartition("__isvc-")[2]


def _now(report: RolloutReport) -> float:
    return report.now or time.time()
