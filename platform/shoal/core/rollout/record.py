"""What a rollout is at one moment: durable, so that it goes on where it was after a restart of anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from shoal.core.rollout.plan import Plan
from shoal.core.types import EndpointName, RevisionId

MAX_TIMELINE = 100
"""Entries of a timeline; the oldest but the first go."""


class Phase(Enum):
    """Where a rollout stands."""

    LOADING = "Loading"
    """The target is loaded, to as many copies as the active revision has."""
    WARMING_UP = "WarmingUp"
    PROGRESSING = "Progressing"
    """Going through its steps."""
    PROMOTING = "Promoting"
    """All steps are done: the routes flip once copies match."""
    SUCCEEDED = "Succeeded"
    ROLLED_BACK = "RolledBack"
    SUPERSEDED = "Superseded"


ENDED = frozenset({Phase.SUCCEEDED, Phase.ROLLED_BACK, Phase.SUPERSEDED})


PAUSED = "Paused"
"""What people read instead of the phase of a rollout that is paused."""


class Verb(Enum):
    """What someone may ask of a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    """Go on; where a step waits for approval, this is the approval."""
    PROMOTE = "promote"
    """Skip what is left and take over."""
    ABORT = "abort"
    RETRY = "retry"
    """Begin again after a rollback."""


class Verdict(Enum):
    """How a check stands."""

    WAITING = "Waiting"
    """Too few samples to say."""
    PASS = "Pass"
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    """Its time is over and it could not be decided."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How a check stands and by what figures."""

    name: str
    verdict: Verdict
    value: float | None = None
    """Of the target."""
    baseline: float | None = None
    """Of the active revision, where they are compared."""
    samples: int = 0
    message: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One line of a timeline."""

    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout of an endpoint. Times are seconds since 1970, weights per mille."""

    id: str
    endpoint: EndpointName
    active: RevisionId
    """The revision it starts from and goes back to."""
    target: RevisionId
    plan: Plan
    started: float
    by: str = ""
    """Who or what started it, for people."""
    phase: Phase = Phase.LOADING
    step: int = 0
    """Index of the step under way; the number of steps once all are done."""
    step_since: float = 0.0
    weight: int = 0
    """Share of requests the target gets now."""
    shadow: int = 0
    """Share of requests mirrored to the target now."""
    warmed: bool = False
    waited: float = 0.0
    """Seconds it was paused: they do not count against the deadline."""
    paused: bool = False
    """It stays in its phase until someone resumes, promotes or aborts it; `reason` says why."""
    paused_at: float = 0.0
    reason: str = ""
    """Why it is paused, or how it ended."""
    ended: float | None = None
    unloaded: bool = False
    """It was rolled back because its target does not load, not for how it answered."""
    checks: tuple[CheckResult, ...] = ()
    timeline: tuple[TimelineEvent, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.phase not in ENDED

    @property
    def shown(self) -> str:
        """Where it stands in one word, for people and their tools: its phase, or `Paused`."""
        return PAUSED if self.paused else self.phase.value
