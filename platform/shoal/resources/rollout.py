"""`spec.rollout` of an InferenceService: how a new revision takes over from the one that serves.

Only the shape; what fits together is in `rolloutrules`. A field left out is None where its default depends on others.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shoal.resources.shape import Shape
from shoal.resources.units import Duration, Percent

MAX_STEPS = 50
MAX_CHECKS = 20
MAX_KEPT = 10
ROLLOUT_BY = "shoal.dev/rollout-by"
"""Annotation of an InferenceService: who started its newest rollout, for the history. Such as a user or a run's URL."""

StrategyName = Literal["immediate", "canary", "blueGreen", "shadow"]
MetricName = Literal["errorRate", "latency", "disagreementRate", "scoreDrift", "webhook", "prometheus"]


class CheckSpec(Shape):
    """A condition a rollout must meet. It fails once a limit is broken with the given confidence."""

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?$",
        description="To tell it from the others.",
    )
    metric: MetricName = Field(
        description="errorRate, latency: of the endpoint's requests. disagreementRate, scoreDrift: of shadowed "
        "requests. webhook, prometheus: asked for outside."
    )
    max: float | None = Field(
        None,
        description="The value may not be above this: a fraction (errorRate, disagreementRate, scoreDrift), "
        "milliseconds (latency), or what the query yields (prometheus).",
    )
    min: float | None = Field(None, description="prometheus: the value may not be below this.")
    max_increase: float | None = Field(
        None, description="errorRate: it may not be above the active revision's by more than this, such as 0.005."
    )
    max_ratio: float | None = Field(
        None, description="latency: it may not be above the active revision's times this, such as 1.5."
    )
    quantile: float | None = Field(None, description="latency: which part of the answers counts. Default 0.99.")
    min_samples: int | None = Field(
        None, description="Answers of the new revision before the check may pass, of measured metrics. Default 100."
    )
    confidence: float | None = Field(
        None, description="How sure the test must be that a limit is broken, of measured metrics. Default 0.95."
    )
    url: str | None = Field(None, description="webhook: what is asked; prometheus: the server. http or https.")
    query: str | None = Field(
        None,
        description="prometheus: the query; {{endpoint}}, {{target}} and {{active}} stand for the names.",
    )
    interval: Duration | None = Field(None, description="webhook, prometheus: how often it is asked. Default 10s.")
    timeout: Duration | None = Field(None, description="webhook, prometheus: for one answer. Default 10s.")
    failure_limit: int | None = Field(
        None, description="webhook, prometheus: so many bad answers in a row are forgiven. Default 0."
    )


class PauseSpec(Shape):
    """Waits. Without a duration until someone resumes the rollout."""

    duration: Duration | None = Field(
        None, description='Such as "30s" or "5m", or seconds. Without it: until `shoal rollout resume`.'
    )


class AnalysisSpec(Shape):
    """Goes on once all checks pass."""

    timeout: Duration | None = Field(
        None, description="After this checks that are undecided count as inconclusive. Default 60s."
    )
    checks: list[CheckSpec] | None = Field(
        None, max_length=MAX_CHECKS, description="Default: those of spec.rollout.checks."
    )


class StepSpec(Shape):
    """One step: exactly one of these."""

    set_weight: Percent | None = Field(
        None, description="Percent of the requests the new revision gets, with at most one decimal."
    )
    set_shadow: Percent | None = Field(
        None, description="Percent of the requests the new revision answers beside the active one, to be compared."
    )
    pause: PauseSpec | None = Field(None, description="Stay so for a time, or until someone resumes the rollout.")
    analysis: AnalysisSpec | None = Field(None, description="Go on once these checks pass.")


class PreviewSpec(Shape):
    """blueGreen: the new revision is loaded, and reachable by the header `x-shoal-canary: always`, before it serves."""

    auto_promote_after: Duration | None = Field(
        None, description="Take over after this time. Without it: on `shoal rollout resume` or `promote`."
    )


class ShadowSpec(Shape):
    """shadow: the new revision answers copies of requests; its answers are compared and dropped."""

    percent: Percent | None = Field(None, description="Percent of the requests that are mirrored. Default 100.")
    duration: Duration | None = Field(
        None, description="How long at most; it ends before once all checks pass. Default 60s."
    )
    then: Literal["promote", "pause"] | None = Field(
        None, description="What follows. Default pause: someone looks at the figures first."
    )


class WarmUpSpec(Shape):
    """Requests every copy of the new revision answers before it takes any of the users'."""

    requests: int | None = Field(
        None, ge=0, le=1000, description="How many, from the samples of the model's package. 0: none. Default 10."
    )
    timeout: Duration | None = Field(None, description="For all of them. Default 60s.")


class RolloutSpec(Shape):
    """How a new revision takes over."""

    strategy: StrategyName | None = Field(
        None,
        description="immediate (default): as soon as it has as many copies as the active one. canary: by steps. "
        "blueGreen: after a preview. shadow: after its answers to mirrored requests were compared.",
    )
    steps: list[StepSpec] | None = Field(
        None,
        max_length=MAX_STEPS,
        description="canary: what is done one after the other. After the last it takes over.",
    )
    checks: list[CheckSpec] | None = Field(
        None, max_length=MAX_CHECKS, description="Hold from the first step to the end; one that fails rolls back."
    )
    preview: PreviewSpec | None = None
    shadow: ShadowSpec | None = None
    warm_up: WarmUpSpec | None = None
    sticky: bool | None = Field(
        None, description="Requests with the same header x-shoal-sticky go to the same revision. Default false."
    )
    shield: bool | None = Field(
        None, description="A request the new revision fails is answered by the active one instead. Default true."
    )
    deadline: Duration | None = Field(
        None, description="The longest a rollout may take, without waiting for people. Default 1h."
    )
    on_deadline: Literal["rollback", "pause"] | None = Field(None, description="Then. Default rollback.")
    on_inconclusive: Literal["pause", "rollback", "continue"] | None = Field(
        None, description="When an analysis could not decide in time. Default pause."
    )
    on_conflict: Literal["supersede", "refuse"] | None = Field(
        None,
        description="When the model is changed again during a rollout: begin anew with the newest (supersede, "
        "default), or refuse the change until the rollout ended.",
    )
    keep_revisions: int | None = Field(
        None, ge=0, le=MAX_KEPT, description="Earlier revisions kept, so that going back is instant. Default 2."
    )
    requires: list[str] | None = Field(
        None,
        max_length=MAX_CHECKS,
        description="Names of evidence the model's package must carry: data, schema, metrics, champion, "
        "golden-replay, scan, signature, budget, approval.",
    )
