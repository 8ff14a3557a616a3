"""A rollout as the mesh reports it, typed. Times are seconds since 1970, weights and shares are percent.

Fields a newer mesh adds are kept as extras, so that an older client goes on working.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ENDED = frozenset({"Succeeded", "RolledBack", "Superseded"})
"""Phases nothing follows."""


class _Report(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True)


class RevisionReport(_Report):
    """What was seen of one revision since the rollout began."""

    requests: int = 0
    errors: int = 0
    error_rate: float | None = None
    """Errors a request, 0 to 1; None without requests."""
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    compared: int = 0
    """Answers compared with the other revision's for the same request."""
    disagreed: int = 0
    disagreement_rate: float | None = None


class CheckReport(_Report):
    """How one check stands."""

    name: str
    metric: str = ""
    verdict: str = "Waiting"
    """Waiting, Pass, Fail or Inconclusive."""
    value: float | None = None
    """Of the target."""
    baseline: float | None = None
    """Of the active revision, where they are compared."""
    limit: str = ""
    """Such as `<= 0.01`."""
    samples: int = 0
    message: str = ""
    at: float = 0.0


class TimelineEntry(_Report):
    """One thing that happened."""

    at: float
    what: str


class PastRollout(_Report):
    """A rollout that ended before the newest one began."""

    id: str
    phase: str = ""
    active: str = ""
    target: str = ""
    strategy: str = ""
    started: float = 0.0
    ended: float | None = None
    by: str = ""
    reason: str = ""
    predictor: dict[str, Any] | None = None
    """`spec.predictor` of its target; None when unknown."""


class RolloutReport(_Report):
    """One rollout: where it stands, by what figures, and what happened."""

    name: str
    """The InferenceService."""
    id: str
    phase: str
    """Loading, WarmingUp, Progressing, Paused, Promoting, Succeeded, RolledBack or Superseded."""
    strategy: str = ""
    active: str = ""
    """The revision it started from and goes back to."""
    target: str = ""
    weight: float = 0.0
    """Percent of the requests the target gets."""
    shadow: float = 0.0
    """Percent of the requests that are mirrored to the target."""
    step: int = 0
    """Index of the step under way; the number of steps once all are done."""
    steps: list[str] = Field(default_factory=list)
    step_since: float | None = None
    started: float = 0.0
    ended: float | None = None
    by: str = ""
    reason: str = ""
    """Why it is paused, or how it ended."""
    deadline: float | None = None
    """When it ends by itself; None when it never does, or waits for people."""
    now: float = 0.0
    """The mesh's clock when it said this."""
    revisions: dict[str, RevisionReport] = Field(default_factory=dict)
    checks: list[CheckReport] = Field(default_factory=list)
    timeline: list[TimelineEntry] = Field(default_factory=list)
    retained: list[str] = Field(default_factory=list)
    """Revisions before the active one that can serve again at once, newest first."""
    history: list[PastRollout] = Field(default_factory=list)
    """Newest first; empty in lists."""
    predictors: dict[str, dict[str, Any] | None] = Field(default_factory=dict)
    """`spec.predictor` of the active revision, the declared one and those retained, where known; empty in lists."""

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.phase not in ENDED

    @property
    def succeeded(self) -> bool:
        """Whether the target took over."""
        return self.phase == "Succeeded"

    @property
    def step_words(self) -> str:
        """Where it is among its steps, such as `2/5`; empty without steps."""
        return f"{min(self.step + 1, len(self.steps))}/{len(self.steps)}" if self.steps else ""

    @property
    def failed_checks(self) -> list[CheckReport]:
        """The checks that say no."""
        return [check for check in self.checks if check.verdict == "Fail"]

    def past(self, rollout: str) -> RolloutReport | None:
        """An earlier rollout of the same InferenceService as far as it is remembered; None if it is not."""
        found = next((entry for entry in self.history if entry.id == rollout), None)
        if found is None:
            return None
        return RolloutReport(
            name=self.name,
            id=found.id,
            phase=found.phase,
            strategy=found.strategy,
            active=found.active,
            target=found.target,
            weight=100.0 if found.phase == "Succeeded" else 0.0,
            started=found.started,
            ended=found.ended,
            by=found.by,
            reason=found.reason,
            now=self.now,
        )
