"""What people fill in in the launchpad: small flat forms, checked before anything is done.

Everything has a default that the launchpad shows; empty texts stand for "not given", since the launchpad hides `None`.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Literal

from pydantic import Field, create_model

import dagster as dg

StrategyName = Literal["canary", "blueGreen", "shadow", "immediate"]


class TrainConfig(dg.Config):
    """How to train this time."""

    parameters: dict[str, Any] = Field(
        default={}, description="Parameters for train(), over those of the model's definition."
    )


class RolloutConfig(dg.Config):
    """What to roll out, and how. Nothing given: the newest published package, as a canary."""

    version: str = Field(
        default="", description="Digest of a published package, at least 12 characters. Empty: see `run`."
    )
    run: str = Field(
        default="", description="Id of the run that published the package. Empty: the newest published one."
    )
    strategy: StrategyName = Field(default="canary", description="canary, blueGreen, shadow or immediate.")
    weights: list[float] = Field(
        default=[10.0, 50.0], description="canary: percent of the requests, one step each, before 100."
    )
    step_seconds: float = Field(
        default=60.0, ge=0, le=604800, description="canary: longest time for the checks of one step; shadow: how long; "
        "blueGreen: preview before it takes over by itself."
    )  # fmt: skip
    shadow_percent: float = Field(
        default=20.0, gt=0, le=100, description="shadow: percent of the requests that are mirrored."
    )
    approval: bool = Field(default=False, description="Wait for the job `approve` before the new revision takes over.")
    max_error_rate: float = Field(default=0.01, ge=0, le=1, description="Part of the answers that may be errors.")
    max_latency_ratio: float = Field(default=2.0, ge=0, description="Its p99 over the active revision's; 0: anything.")
    max_disagreement: float = Field(
        default=0.05, ge=0, le=1, description="shadow: part of the answers that may differ."
    )
    min_samples: int = Field(default=100, ge=1, le=10_000_000, description="Answers a check wants before it passes.")
    on_inconclusive: Literal["pause", "rollback", "continue"] = Field(
        default="pause", description="What to do when a step ends with too few answers to judge by."
    )
    on_conflict: Literal["supersede", "refuse"] = Field(
        default="supersede", description="Whether another change of the endpoint may end this rollout."
    )
    deadline_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=2592000,
        description="Longest time for all, waiting for people not counted; then it goes back.",
    )
    reason: str = Field(default="", max_length=500, description="Why, for the history.")


def rollout_form(**defaults: Any) -> type[RolloutConfig]:
    """`RolloutConfig` with other defaults, for the launchpad and for runs that give no config.

    Raises:
        ValueError: a default is none of its fields, or out of bounds.
    """
    if unknown := set(defaults) - set(RolloutConfig.model_fields):
        raise ValueError(f"{sorted(unknown)[0]}: is no field; use {', '.join(sorted(RolloutConfig.model_fields))}")
    chosen = RolloutConfig(**defaults)
    fields: dict[str, Any] = {}
    for name in defaults:
        field = copy(RolloutConfig.model_fields[name])
        field.default = getattr(chosen, name)
        fields[name] = (field.annotation, field)
    return create_model("RolloutConfig", __base__=RolloutConfig, __doc__=RolloutConfig.__doc__, **fields)


class SteerConfig(dg.Config):
    """Which rollout is meant."""

    model: str = Field(description="Name of the model, as the catalogue has it.")
    rollout: str = Field(
        default="", description="Id of the rollout, to be sure that no other is meant. Empty: the newest."
    )
    reason: str = Field(default="", max_length=500, description="Why, for the history.")


class ApproveConfig(SteerConfig):
    """What is approved."""

    action: Literal["resume", "promote"] = Field(
        default="resume",
        description="resume: go on with the next step. promote: take over now, skipping the steps left.",
    )


class RollbackConfig(dg.Config):
    """Where to go back to."""

    model: str = Field(description="Name of the model, as the catalogue has it.")
    to: str = Field(
        default="", description="A revision of the history, such as NAME__isvc-0123456789. Empty: the one before."
    )
    reason: str = Field(default="", max_length=500, description="Why, for the history.")
