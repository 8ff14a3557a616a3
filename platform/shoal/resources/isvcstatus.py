"""`status` of an InferenceService, as Shoal writes it. Others may add fields of their own."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from shoal.resources.shape import Shape


class ModelStates(Shape):
    """States of the revision that serves and of the one that shall replace it."""

    model_config = ConfigDict(extra="allow")

    active_model_state: str = Field("", description="Pending, Standby, Loading, Loaded or FailedToLoad.")
    target_model_state: str = Field("", description="The same for the next revision; empty when there is none.")


class ModelCopies(Shape):
    """How many copies of the active revision there are."""

    model_config = ConfigDict(extra="allow")

    total_copies: int = 0
    failed_copies: int = 0


class FailureInfo(Shape):
    """The newest failure of the target revision."""

    model_config = ConfigDict(extra="allow")

    location: str = Field("", description="Pod it happened in.")
    reason: str = ""
    message: str = ""
    model_revision_name: str = ""
    time: str = ""


class ModelStatus(Shape):
    """How the model stands."""

    model_config = ConfigDict(extra="allow")

    transition_status: str = Field("", description="UpToDate, InProgress, BlockedByFailedLoad or InvalidSpec.")
    states: ModelStates = Field(default_factory=lambda: ModelStates.model_validate({}))
    copies: ModelCopies = Field(default_factory=lambda: ModelCopies.model_validate({}))
    last_failure_info: FailureInfo = Field(default_factory=lambda: FailureInfo.model_validate({}))


class RolloutStatus(Shape):
    """The newest rollout."""

    model_config = ConfigDict(extra="allow")

    id: str = ""
    phase: str = Field(
        "",
        description="Loading, WarmingUp, Progressing, Paused, Promoting, Succeeded, RolledBack or Superseded; "
        "Refused when a change must wait for the end of another rollout.",
    )
    strategy: str = ""
    revision: str = Field("", description="The revision it leads to.")
    weight: float = Field(0, description="Percent of the requests that revision gets.")
    step: str = Field("", description="Such as 2/5; empty without steps.")
    message: str = Field("", description="Why it waits, or how it ended.")
    started_at: str = ""
    ended_at: str = ""


class Condition(Shape):
    """One condition, such as Ready."""

    model_config = ConfigDict(extra="allow")

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class InferenceServiceStatus(Shape):
    """Written by Shoal."""

    model_config = ConfigDict(extra="allow")

    url: str = Field("", description="Address of the gateway's gRPC endpoint within the cluster.")
    conditions: list[Condition] = Field(default_factory=list)
    model_status: ModelStatus = Field(default_factory=lambda: ModelStatus.model_validate({}))
    model_revision_name: str = Field("", description="The revision that serves.")
    serving_runtime_name: str = Field("", description="The ServingRuntime chosen for it.")
    cluster_serving_runtime_name: str = ""
    observed_generation: int = 0
    rollout: RolloutStatus | None = None
