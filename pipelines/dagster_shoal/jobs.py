"""Jobs with small forms: `retrain` and `rollout` materialize assets; `approve`, `abort` and `rollback` steer the mesh.

Those that steer are not partitioned and carry no model tag, so that a limit of one run a model never makes them wait
for the run they are about. A rollback does not need them either: it happens in the mesh.
"""

from collections.abc import Callable
from typing import Any, Literal

import dagster as dg
from dagster_shoal import rollout_watch
from dagster_shoal.config import ApproveConfig, RollbackConfig, SteerConfig, TrainConfig
from dagster_shoal.resource import ShoalResource
from dagster_shoal.stages import MODEL_TAG, MODELS, ROLLOUT_TAG, Stage
from dagster_shoal.steps import Pipeline, told
from shoal.client import RolloutReport, ShoalClient

AssetJob = Literal["retrain", "rollout"]


def build_asset_jobs(pipeline: Pipeline) -> dict[AssetJob, Any]:
    """`retrain`: from data to serving. `rollout`: a published package. Both with the form's defaults to change."""
    keys = pipeline.specs
    train_op = pipeline.layout.op(Stage.TRAINED_MODEL)
    rollout_op = pipeline.layout.op(Stage.ROLLOUT)
    forms = {train_op: TrainConfig(), rollout_op: pipeline.rollout_form()}
    everything = dg.AssetSelection.assets(*(spec.key for spec in keys.values()))
    last = dg.AssetSelection.assets(keys[Stage.ROLLOUT].key, keys[Stage.SERVING_ENDPOINT].key)
    retrain, rollout = "Train, validate, package, publish and roll out a model.", "Roll out a published package."
    return {
        "retrain": _asset_job(pipeline, "retrain", everything, forms, retrain),
        "rollout": _asset_job(pipeline, "rollout", last, {rollout_op: forms[rollout_op]}, rollout),
    }


def _asset_job(
    pipeline: Pipeline, name: str, selection: dg.AssetSelection, forms: dict[str, dg.Config], says: str
) -> Any:
    only = pipeline.layout.only
    filled = {op: {"config": form.model_dump()} for op, form in forms.items()}
    config: Any = {"ops": filled}
    if only is None:
        # A partitioned config is what gives each run its model's tag, for limits of one run a model.
        config = dg.PartitionedConfig(
            partitions_def=MODELS,
            run_config_for_partition_key_fn=lambda _: {"ops": filled},
            tags_for_partition_key_fn=lambda key: {MODEL_TAG: key},
        )
    return dg.define_asset_job(
        pipeline.layout.name(name),
        selection=selection,
        config=config,
        description=says,
        tags={MODEL_TAG: only.name} if only else None,
        executor_def=dg.in_process_executor,
    )


def build_steering_jobs(service_of: Callable[[str], str]) -> list[dg.JobDefinition]:
    """`approve`, `abort`, `rollback`.

    Args:
        service_of: the InferenceService of a model by the model's name.
    """

    @dg.op
    def approve_rollout(context: dg.OpExecutionContext, config: ApproveConfig, shoal: ShoalResource) -> None:
        """Let a waiting rollout go on."""
        service = service_of(config.model)

        def steer(client: ShoalClient, by: str) -> RolloutReport:
            return client.steer(service, config.action, config.rollout, by, config.reason)

        _steered(context, shoal, service, steer)

    @dg.op
    def abort_rollout(context: dg.OpExecutionContext, config: SteerConfig, shoal: ShoalResource) -> None:
        """Send a rollout back where it came from."""
        service = service_of(config.model)

        def steer(client: ShoalClient, by: str) -> RolloutReport:
            return client.steer(service, "abort", config.rollout, by, config.reason)

        _steered(context, shoal, service, steer)

    @dg.op
    def rollback_model(context: dg.OpExecutionContext, config: RollbackConfig, shoal: ShoalResource) -> None:
        """Make an earlier revision serve again."""
        service = service_of(config.model)

        def steer(client: ShoalClient, by: str) -> RolloutReport:
            return client.undo(service, config.to or None, by, config.reason)

        _steered(context, shoal, service, steer)

    @dg.job(executor_def=dg.in_process_executor, description="Approve a rollout that waits, from the UI.")
    def approve() -> None:
        approve_rollout()

    @dg.job(executor_def=dg.in_process_executor, description="End a rollout; the active revision serves everything.")
    def abort() -> None:
        abort_rollout()

    @dg.job(executor_def=dg.in_process_executor, description="Go back to an earlier revision, at once if it is kept.")
    def rollback() -> None:
        rollback_model()

    return [approve, abort, rollback]


def _steered(
    context: dg.OpExecutionContext,
    shoal: ShoalResource,
    service: str,
    steer: Callable[[ShoalClient, str], RolloutReport],
) -> None:
    """Do it, and show how the rollout stands then."""
    with told(), shoal.client() as client:
        report = steer(client, shoal.run_link(context.run_id))
    context.instance.add_run_tags(context.run_id, {ROLLOUT_TAG: report.id})
    figures = rollout_watch.figures_of(report)
    context.log.info(f"rollout {report.id} of {service} is {report.phase}: {report.reason or figures}")
    context.add_output_metadata({"rollout": report.id, "phase": report.phase, "reason": report.reason, **figures})
