"""Going back: which revision that means, and how it was declared. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.client.errors import NotFound
from shoal.client.reports import RolloutReport


def before(report: RolloutReport) -> str:
    """The revision that going back means."""
    if report.phase != "Succeeded":
        return report.active
    return report.retained[0] if report.retained else report.active


def predictor_of(report: RolloutReport, revision: str) -> Mapping[str, Any]:
    """`spec.predictor` of a revision.

    Raises:
        NotFound: nobody remembers it.
    """
    known: dict[str, Mapping[str, Any]] = {
        entry.target: entry.predictor for entry in reversed(report.history) if entry.predictor
    }
    found = known.get(revision)
    if found is None:
        there = ", ".join(known) or "none"
        raise NotFound(f"how {revision} of {report.name} was declared is not remembered; remembered: {there}")
    return found
