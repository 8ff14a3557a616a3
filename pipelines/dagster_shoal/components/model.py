"""`ShoalModelComponent`: one model in YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import ConfigDict, Field

import dagster as dg
from dagster_shoal.components.forms import BudgetChoice, DataGateChoice, MetricGates, RolloutChoice, Version
from dagster_shoal.components.functions import Function, OptionalFunction
from dagster_shoal.components.scaffolders import ModelScaffolder
from dagster_shoal.components.training import TrainingChoice
from dagster_shoal.config import RolloutConfig
from dagster_shoal.factory import build_model_assets
from dagster_shoal.model import (
    GATES,
    Budget,
    DataGate,
    Gate,
    ModelDefinition,
    load_joblib,
    predict_sklearn,
    save_joblib,
)
from dagster_shoal.schedules import retrain_schedules
from dagster_shoal.translator import ShoalProps, ShoalTranslator


class Schedule(dg.Model, dg.Resolvable):
    """When to train again."""

    cron: str = Field(description="As in crontab; `H` as minute: one that depends on the model's name, to spread load.")
    timezone: str = Field("UTC", description="Such as Europe/Berlin.")
    running: bool = Field(True, description="Whether it runs without being turned on in the UI.")


@dg.scaffold_with(ModelScaffolder)
class ShoalModelComponent(dg.Component, dg.Model, dg.Resolvable):
    """A model: trained, validated, packaged, published, and rolled out progressively to a Shoal cluster.

    Makes the assets `NAME/training_data` to `NAME/serving_endpoint` with their checks, the jobs `NAME__retrain` and
    `NAME__rollout`, and a schedule. The cluster and the store come from a `dagster_shoal.ShoalClusterComponent`, or
    from resources `shoal` and `model_store` of your own.

    ```yaml
    type: dagster_shoal.ShoalModelComponent
    attributes:
      name: fraud
      description: Scores card payments.
      data: my_project.fraud.load_data          # () -> Dataset
      evaluate: my_project.fraud.evaluate       # (model, rows) -> Evaluation
      training:                                 # type: function, script, pod or artifact
        type: function
        function: my_project.fraud.train        # (dataset, parameters) -> model
      parameters: {depth: 6}
      code_version: "7"
      format: sklearn
      owners: ["team:risk"]
      licence: Apache-2.0
      gates: [data, metrics, champion, schema, scan, signature, golden-replay, budget]
      metric_gates:
        - {metric: auc, threshold: 0.9, min_absolute_change: -0.005}
      data_gate: {min_rows: 1000, min_class_share: 0.01}
      budget: {max_bytes: 50000000, max_p99_ms: 30}
      rollout:
        strategy: canary
        weights: [5, 25, 50]
        step_seconds: 120
        approval: false
        max_error_rate: 0.01
      schedule: {cron: "H 3 * * *", timezone: Europe/Berlin}
      translation:
        group_name: risk
        tags: {stage: "{{ props.stage.value }}"}
    ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str = Field(
        description="Of the model, its packages and, unless `endpoint` says otherwise, its InferenceService."
    )
    data: Function
    evaluate: Function
    training: TrainingChoice
    save_model: OptionalFunction = None
    load_model: OptionalFunction = None
    predict: OptionalFunction = None
    parameters: Mapping[str, Any] = Field(default_factory=dict, description="What the functions or the program get.")
    format: str = Field("sklearn", description="As `modelFormat.name`.")
    format_version: Version = ""
    runtime: str = Field("", description="A ServingRuntime by name; empty: whichever serves the format.")
    endpoint: str = Field("", description="Name of the InferenceService; empty: the model's.")
    description: str = ""
    code_version: Version = ""
    owners: Sequence[str] = Field(default_factory=list, description="team:NAME or an e-mail address.")
    licence: str = ""
    gates: Sequence[Gate] = Field(GATES, description="What is checked before it is published.")
    metric_gates: MetricGates = ()
    data_gate: DataGateChoice = DataGate()
    budget: BudgetChoice = Budget()
    samples: int = Field(16, ge=1, le=1000, description="Test rows that make the golden set.")
    tolerance: float = Field(1e-6, ge=0, description="Relative difference that still counts as the same answer.")
    trusted_names: Sequence[str] = Field(
        default_factory=list, description="Names such as ours.steps:Scaler in pickles."
    )
    allow_breaking: bool = Field(False, description="Let inputs and outputs change in ways that break callers.")
    rollout: RolloutChoice = RolloutConfig
    schedule: Schedule | None = None
    translation: (
        Annotated[
            TranslationFn[ShoalProps],
            TranslationFnResolver[ShoalProps](lambda props: {"props": props, "model": props.model}),
        ]
        | None
    ) = None

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What `dg list components` and the UI show."""
        return dg.ComponentTypeSpec(
            description="A model, from training to a progressively rolled out endpoint", tags=["ml", "serving"]
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Assets, checks, jobs and the schedule."""
        model = self.definition(context)
        (found,) = build_model_assets([model], layout="assets", translator=_Translator(self), rollout_form=self.rollout)
        schedules: list[dg.ScheduleDefinition] = []
        if self.schedule is not None:
            status = dg.DefaultScheduleStatus.RUNNING if self.schedule.running else dg.DefaultScheduleStatus.STOPPED
            schedules = retrain_schedules([found], self.schedule.cron, self.schedule.timezone, default_status=status)
        return dg.Definitions(
            assets=found.assets, asset_checks=found.checks, jobs=list(found.jobs.values()), schedules=schedules
        )

    def definition(self, context: dg.ComponentLoadContext) -> ModelDefinition:
        """The model as code-first users write it; override to add what YAML has no words for."""
        return ModelDefinition(
            name=self.name,
            load_data=self.data,
            train=self.training.function_of(),
            evaluate=self.evaluate,
            trainer=self.training.trainer(context.path),
            save=self.save_model or save_joblib,
            load=self.load_model or load_joblib,
            predict=self.predict or predict_sklearn,
            format=self.format,
            format_version=self.format_version,
            runtime=self.runtime,
            endpoint=self.endpoint,
            parameters=dict(self.parameters),
            code_version=self.code_version,
            description=self.description,
            owners=tuple(self.owners),
            licence=self.licence,
            gates=tuple(self.gates),
            metric_gates=tuple(self.metric_gates),
            data_gate=self.data_gate,
            budget=self.budget,
            samples=self.samples,
            tolerance=self.tolerance,
            trusted_names=tuple(self.trusted_names),
            allow_breaking=self.allow_breaking,
        )


class _Translator(ShoalTranslator):
    """The usual names, and what `translation` says over them."""

    def __init__(self, component: ShoalModelComponent) -> None:
        self._component = component

    def get_asset_spec(self, props: ShoalProps) -> dg.AssetSpec:
        """See `ShoalTranslator.get_asset_spec`."""
        spec = super().get_asset_spec(props)
        translation = self._component.translation
        return spec if translation is None else translation(spec, props)
