"""What of a rollout goes through XCom, and the words that stop one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from shoal.client import RolloutReport
from shoal.client.client import Verb

OnKill = Literal["pause", "abort", "leave"]
STOPS: Mapping[str, Verb] = {"pause": "pause", "abort": "abort"}


def summary(report: RolloutReport) -> dict[str, Any]:
    """The figures of a rollout without its history, small enough for XCom."""
    return {
        "rollout": report.id,
        "name": report.name,
        "phase": report.phase,
        "reason": report.reason,
        "active": report.active,
        "target": report.target,
        "weight": report.weight,
        "checks": {check.name: check.verdict for check in report.checks},
        "seconds": round(report.ended - report.started, 2) if report.ended is not None else None,
    }
