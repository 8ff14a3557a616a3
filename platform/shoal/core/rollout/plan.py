"""What a rollout shall do: every strategy as one list of steps, with the checks that hold all along.

A canary is its steps as declared; blue-green is a preview that waits for approval; a shadow is a share of mirrored
requests that is compared; immediate is no step at all. Weights are per mille of the requests, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

WHOLE = 1000
"""All requests, in per mille."""


class Strategy(Enum):
    """How a new revision takes over (`spec.rollout.strategy`)."""

    IMMEDIATE = "immediate"
    CANARY = "canary"
    BLUE_GREEN = "blueGreen"
    SHADOW = "shadow"


class Metric(Enum):
    """What a check looks at. The first four come from the endpoint's own requests, the others from outside."""

    ERROR_RATE = "errorRate"
    """Part of the answers that are errors, 0 to 1."""
    LATENCY = "latency"
    """Milliseconds at a quantile."""
    DISAGREEMENT_RATE = "disagreementRate"
    """Part of the compared answers in which target and active revision differ, 0 to 1. Needs shadowed requests."""
    SCORE_DRIFT = "scoreDrift"
    """Kolmogorov-Smirnov distance between the outputs of both revisions, 0 to 1. Needs shadowed requests."""
    WEBHOOK = "webhook"
    """An HTTP server is asked; its status decides."""
    PROMETHEUS = "prometheus"
    """The value of a Prometheus query."""


MEASURED = frozenset({Metric.ERROR_RATE, Metric.LATENCY, Metric.DISAGREEMENT_RATE, Metric.SCORE_DRIFT})
"""Metrics of the endpoint's own requests; the others are asked for outside."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition a rollout must meet. It fails as soon as a limit is broken with `confidence`."""

    name: str
    metric: Metric
    max: float | None = None
    """The value may not be above this: a fraction, milliseconds, or whatever the query yields."""
    min: float | None = None
    """The value may not be below this. For `PROMETHEUS` only."""
    max_increase: float | None = None
    """The value may not be above the active revision's by more than this. For `ERROR_RATE` only."""
    max_ratio: float | None = None
    """The value may not be above the active revision's times this. For `LATENCY` only."""
    quantile: float = 0.99
    """Which latency counts."""
    min_samples: int = 100
    """Answers of the target (and of the active revision, where they are compared) before the check may pass."""
    confidence: float = 0.95
    """How sure the test must be before it says that a limit is broken."""
    url: str = ""
    """The webhook, or the Prometheus server."""
    query: str = ""
    """The Prometheus query; `{{endpoint}}`, `{{target}}` and `{{active}}` stand for the names."""
    interval: float = 10.0
    """How often the outside is asked."""
    timeout: float = 10.0
    """How long one question to the outside may take."""
    failure_limit: int = 0
    """How many answers in a row from outside may be bad before the check fails."""


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Send this share of requests to the target."""

    weight: int


@dataclass(frozen=True, slots=True)
class SetShadow:
    """Have this share of requests also answered by the target, compared, and dropped."""

    share: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Stay so for a time; None: until someone resumes."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Analyse:
    """Go on once these checks pass; at the latest after `seconds`, when those still undecided are inconclusive."""

    checks: tuple[Check, ...]
    seconds: float


Step: TypeAlias = SetWeight | SetShadow | Pause | Analyse


class Otherwise(Enum):
    """What becomes of a rollout that does not come to its end by itself."""

    ROLL_BACK = "rollback"
    PAUSE = "pause"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Requests every copy of the target answers before it takes any of the users'."""

    requests: int = 0
    """0: none."""
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A declared rollout strategy."""

    strategy: Strategy = Strategy.IMMEDIATE
    steps: tuple[Step, ...] = ()
    checks: tuple[Check, ...] = ()
    """They hold from the first step to the end."""
    warm_up: WarmUp = WarmUp()
    sticky: bool = False
    """Requests with the same value of the header `x-shoal-sticky` go to the same revision at the same weight."""
    shield: bool = True
    """A request the target answers with a server error is answered by the active revision instead."""
    deadline: float = 3600.0
    """The longest a rollout may take, waiting for people not counted."""
    on_deadline: Otherwise = Otherwise.ROLL_BACK
    on_inconclusive: Otherwise = Otherwise.PAUSE
    supersede: bool = True
    """Another change of the endpoint ends this rollout and begins its own; otherwise it is refused until this ends."""
    keep: int = 2
    """Revisions before the active one that stay declared, so that going back to them is instant."""


IMMEDIATE = Plan()
"""As soon as the target has as many copies as the active revision."""
