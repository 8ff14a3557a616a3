"""`rollout`: declares the package and follows the mesh to the end.

The rollout lives in the mesh, with its deadline and its way back. So this may be cancelled, killed, retried or run
twice: whoever comes next finds the rollout by its revision and id, and goes on following it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster_shoal import rollout_watch
from dagster_shoal.choosing import chosen
from dagster_shoal.config import RolloutConfig
from dagster_shoal.model import ModelDefinition
from dagster_shoal.packaging import proven
from dagster_shoal.resource import ShoalResource
from dagster_shoal.stages import MODEL_TAG, ROLLOUT_TAG, VERSION_TAG, Stage
from dagster_shoal.steps import DIGEST, Pipeline, refusal, told
from dagster_shoal.store import ModelStore
from dagster_shoal.strategy import rollout_spec
from shoal.client import RolloutReport, ShoalClient, ShoalError
from shoal.package.predictor import predictor_for
from shoal.package.publish import Published

FIELD_MANAGER = "dagster-shoal"
PROMOTED = "promoted"
"""Name of the rollout's own check."""
_LOAD_SECONDS = 600.0


def rollout(pipeline: Pipeline) -> dg.AssetsDefinition:
    """The asset."""
    spec = pipeline.specs[Stage.ROLLOUT]
    form = pipeline.rollout_form
    says = "The rollout ended with the new revision serving all requests."

    @dg.multi_asset(
        name=pipeline.layout.op(Stage.ROLLOUT),
        specs=[spec],
        check_specs=[pipeline.own_check(Stage.ROLLOUT, PROMOTED, says)],
    )
    def roll_out(
        context: dg.AssetExecutionContext,
        config: form,  # type: ignore[valid-type]
        shoal: ShoalResource,
        model_store: ModelStore,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        model = pipeline.model(context)
        with told():
            partition = context.partition_key if context.has_partition_key else None
            package = chosen(context.instance, pipeline, model, partition, config, model_store, context.run.run_id)
            proven(package, model, model_store)
            with shoal.client() as client:
                run = _Run(context, pipeline, model, shoal, client)
                yield from run.to_the_end(package, config)

    return roll_out


@dataclass
class _Run:
    """One run's part in one rollout."""

    context: dg.AssetExecutionContext
    pipeline: Pipeline
    model: ModelDefinition
    shoal: ShoalResource
    client: ShoalClient
    watch: rollout_watch.RolloutWatch = field(default_factory=rollout_watch.RolloutWatch)
    followed: str = ""
    """Id of the rollout."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of each part of this run."""

    def to_the_end(
        self, package: Published, config: RolloutConfig
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        """Declare, follow, conclude."""
        self._tag(**{MODEL_TAG: self.model.name, VERSION_TAG: package.digest[:12]})
        try:
            report = self._begin(package, config)
            report = self._follow(report) if report is not None else None
        except dg.DagsterExecutionInterruptedError:
            self._cancelled()
            raise
        if report is None:
            yield self._served_at_once(package)
            yield dg.AssetCheckResult(check_name=PROMOTED, passed=True, description="there was nothing to replace")
            return
        found = rollout_watch.evidence(report, self.watch.points)
        passed = report.succeeded
        yield dg.AssetCheckResult(
            check_name=PROMOTED,
            passed=passed,
            description=report.reason or report.phase,
            metadata=_brief(report),
        )
        if not passed:
            raise refusal(_bad_news(report), {**found, **self._links()})
        yield self._result(package, found)

    def _begin(self, package: Published, config: RolloutConfig) -> RolloutReport | None:
        """The rollout to follow: one under way to this revision, or a new one; None: there is nothing to roll out."""
        began = time.monotonic()
        report = self.client.roll_out(
            self._manifest(package, config),
            by=self._by(),
            reason=config.reason,
            field_manager=FIELD_MANAGER,
            adopt=self.shoal.adopt,
            timeout=_LOAD_SECONDS,
        )
        if report is not None and not report.by.startswith(self._by()):
            self.context.log.info(f"following rollout {report.id} to {report.target}, started by {report.by or '?'}")
        self.parts["declare_seconds"] = round(time.monotonic() - began, 3)
        return report

    def _manifest(self, package: Published, config: RolloutConfig) -> dict[str, Any]:
        try:
            spec = rollout_spec(config, self.model.gates)
        except ValueError as error:
            raise refusal(f"config.{error}") from None
        return {
            "metadata": {"name": self.model.service},
            "spec": {"predictor": predictor_for(package, runtime=self.model.runtime or None), "rollout": spec},
        }

    def _follow(self, report: RolloutReport) -> RolloutReport:
        """The last report; observations on the way."""
        shoal, began, waiting = self.shoal, time.monotonic(), False
        self.followed = report.id
        self._tag(**{ROLLOUT_TAG: report.id})
        for seen in self.client.follow(self.model.service, report.id, shoal.poll_timeout, shoal.poll_interval):
            report = seen
            self._show(report)
            if rollout_watch.awaits_approval(report) and not waiting:
                self.context.log.warning(f"rollout {report.id} waits: {report.reason}. To go on, run job `approve`.")
            waiting = rollout_watch.awaits_approval(report)
        self.parts["follow_seconds"] = round(time.monotonic() - began, 3)
        return report

    def _show(self, report: RolloutReport) -> None:
        seen = self.watch.see(report)
        if seen is not None:
            key = self.pipeline.key(Stage.ROLLOUT)
            partition = self.context.partition_key if self.context.has_partition_key else None
            self.context.log_event(rollout_watch.observation(key, partition, seen, report.id))

    def _cancelled(self) -> None:
        """Pause or abort the rollout this run follows or has just begun, as configured."""
        verb = self.shoal.on_cancel
        if verb == "leave":
            return
        try:
            newest = self.client.newest_rollout(self.model.service)
            if newest and newest.live and (newest.id == self.followed or newest.by.startswith(self._by())):
                why = "the run that follows it was cancelled"
                self.client.steer(self.model.service, verb, newest.id, self._by(), why)
        except ShoalError as error:  # It may have ended just now. In any case its own deadline holds.
            self.context.log.warning(f"the rollout of {self.model.service} could not be told to {verb}: {error}")

    def _served_at_once(self, package: Published) -> dg.MaterializeResult[Any]:
        self.context.log.info(f"{self.model.service} serves {package.digest[:12]}; there was nothing to replace")
        return self._result(package, {"phase": "Serving", "weight": 100.0})

    def _result(self, package: Published, found: dict[str, Any]) -> dg.MaterializeResult[Any]:
        about = {DIGEST: package.digest, "version": package.digest[:12], "dagster/uri": package.uri}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(package.digest), metadata={**about, **found, **self.parts, **self._links()}
        )

    def _links(self) -> dict[str, Any]:
        endpoint = self.shoal.endpoint_url(self.model.service)
        address = dg.MetadataValue.url(endpoint) if "://" in endpoint else dg.MetadataValue.text(endpoint)
        return {"endpoint": address, "run": dg.MetadataValue.dagster_run(self.context.run.run_id)}

    def _by(self) -> str:
        return self.shoal.run_link(self.context.run.run_id)

    def _tag(self, **tags: str) -> None:
        self.context.instance.add_run_tags(self.context.run.run_id, tags)


def _brief(report: RolloutReport) -> dict[str, Any]:
    return {"rollout": report.id, "phase": report.phase, **rollout_watch.figures_of(report)}


def _bad_news(report: RolloutReport) -> str:
    failed = "; ".join(f"{check.name}: {check.message or check.value}" for check in report.failed_checks)
    why = report.reason or failed or "no reason was given"
    serving = f"; {report.active} serves all requests" if report.phase == "RolledBack" else ""
    return f"rollout {report.id} of {report.name} ended {report.phase}: {why}{serving}"
