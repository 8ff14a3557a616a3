"""Going back: which revision that means, and how it was declared. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shoal.client.errors import NotFound
from shoal.client.reports import RolloutReport


def revision_to_go_back_to(report: RolloutReport, to: str | None) -> str:
    """The revision that going back means.

    Args:
        report: of the newest rollout, with its history.
        to: a revision, its hash, or the id of a rollout that led to it; None: the one before.

    Raises:
        NotFound: there was none before.
    """
    if to is None:
        return _before(report)
    by_rollout = {past.id: past.target for past in report.history} | {report.id: report.target}
    by_hash = {revision.rpartition("-")[2]: revision for revision in (*by_rollout.values(), *report.predictors)}
    return by_rollout.get(to) or by_hash.get(to) or to


def _before(report: RolloutReport) -> str:
    if report.phase != "Succeeded":
        return report.active
    if not report.retained:
        raise NotFound(f"no revision before {report.target} is kept; name one of `shoal rollout history {report.name}`")
    return report.retained[0]


def predictor_of(report: RolloutReport, revision: str) -> Mapping[str, Any]:
    """`spec.predictor` of a revision.

    Raises:
        NotFound: nobody remembers it.
    """
    known: dict[str, Mapping[str, Any]] = {
        entry.target: entry.predictor for entry in reversed(report.history) if entry.predictor
    }
    known |= {name: predictor for name, predictor in report.predictors.items() if predictor}
    found = known.get(revision)
    if found is None:
        there = ", ".join(known) or "none"
        raise NotFound(f"how {revision} of {report.name} was declared is not remembered; remembered: {there}")
    return found
