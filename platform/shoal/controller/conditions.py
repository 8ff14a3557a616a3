"""Conditions, as statuses of every kind have them: `lastTransitionTime` moves only with its condition. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shoal.controller.times import timestamp

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConditionVerdict:
    """One condition before it is dated."""

    status: bool
    reason: str = ""
    message: str = ""


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition of a status; empty when there is none."""
    return next((found for found in status.get("conditions") or () if found.get("type") == kind), {})


def conditions(
    verdicts: Mapping[str, ConditionVerdict], ours: tuple[str, ...], old: Mapping[str, Any], now: float
) -> list[Document]:
    """The conditions of a status: those of others as they were, and ours as judged. `ours`: all types we ever write."""
    others = [found for found in old.get("conditions") or () if found.get("type") not in ours]
    return others + [_condition(kind, verdict, condition(old, kind), now) for kind, verdict in verdicts.items()]


def _condition(kind: str, verdict: ConditionVerdict, old: Mapping[str, Any], now: float) -> Document:
    status = "True" if verdict.status else "False"
    same = old.get("status") == status and old.get("lastTransitionTime")
    found: Document = {"type": kind, "status": status}
    if verdict.reason:
        found["reason"] = verdict.reason
    if verdict.message:
        found["message"] = verdict.message
    found["lastTransitionTime"] = old["lastTransitionTime"] if same else timestamp(now)
    return found
