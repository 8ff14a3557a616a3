"""The gates as blocking asset checks. Each keeps its result beside what it judged, for publishing to find it there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import dagster as dg
from dagster_shoal import gates, packaging
from dagster_shoal.drafts import Draft, Drafts, Folder
from dagster_shoal.history import upstream
from dagster_shoal.model import Gate, ModelDefinition
from dagster_shoal.replay import Replay, replay
from dagster_shoal.resource import ShoalResource
from dagster_shoal.serving import serving_now
from dagster_shoal.stages import GATES_OF, Stage, identifier
from dagster_shoal.steps import DATA, Pipeline, partitioned_checks, told
from dagster_shoal.store import ModelStore
from dagster_shoal.training import EVALUATION
from dagster_shoal.verdicts import Verdict, judged

_REPLAY = "replay.json"


@dataclass(frozen=True)
class Case:
    """What a gate looks at."""

    pipeline: Pipeline
    context: dg.AssetCheckExecutionContext
    model: ModelDefinition
    shoal: ShoalResource
    store: ModelStore

    def drafts(self) -> Drafts:
        """Of the model."""
        return self.pipeline.drafts(self.context, self.store)

    def draft(self, stage: Stage) -> Draft:
        """What a stage worked on."""
        return self.pipeline.draft(self.context, self.store, stage)


Judge: TypeAlias = Callable[[Case], tuple[Folder, Verdict]]
"""Looks at what a stage made: what was judged, and the result."""


def build_checks(pipeline: Pipeline, wanted: tuple[Gate, ...]) -> list[dg.AssetChecksDefinition]:
    """A blocking check for each gate, on the asset it judges."""
    with partitioned_checks():
        return [_check(pipeline, stage, gate) for stage, found in GATES_OF.items() for gate in found if gate in wanted]


def _check(pipeline: Pipeline, stage: Stage, gate: Gate) -> dg.AssetChecksDefinition:
    judge, says = _JUDGES[gate]

    @dg.asset_check(
        asset=pipeline.key(stage),
        name=identifier(gate),
        description=says,
        blocking=True,
        partitions_def=pipeline.layout.partitions_def,
    )
    def check(
        context: dg.AssetCheckExecutionContext, shoal: ShoalResource, model_store: ModelStore
    ) -> dg.AssetCheckResult:
        model = pipeline.model(context)
        if gate not in model.gates:
            return dg.AssetCheckResult(passed=True, description=f"{model.name} does not have this gate")
        with told():
            folder, verdict = judge(Case(pipeline, context, model, shoal, model_store))
        verdict = verdict.model_copy(update={"run": context.run.run_id, "subject": verdict.subject or folder.id})
        folder.record(verdict)
        if not verdict.passed:  # Dagster's own words for it name the check only.
            context.log.error(verdict.words)
        return result_of(verdict)

    return check


def result_of(verdict: Verdict) -> dg.AssetCheckResult:
    """A gate's result as Dagster shows it."""
    details = {"findings": dg.MetadataValue.md("\n".join(f"- {line}" for line in verdict.details))}
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=verdict.summary,
        metadata={**verdict.metrics, **(details if verdict.details else {})},
    )


def _data(case: Case) -> tuple[Folder, Verdict]:
    drafts = case.drafts()
    made = upstream(case.context, case.pipeline.key(Stage.TRAINING_DATA))
    folder = drafts.data(str(made.get(DATA, "")))
    return folder, gates.judge_data(drafts.load_data(folder.id), case.model.data_gate)


def _metrics(case: Case) -> tuple[Folder, Verdict]:
    draft, found = _evaluation(case)
    return draft, gates.judge_metrics(found["metrics"], case.model.metric_gates)


def _champion(case: Case) -> tuple[Folder, Verdict]:
    draft, found = _evaluation(case)
    verdict = gates.judge_champion(found["metrics"], found["champion"], case.model.metric_gates, found["why_none"])
    return draft, verdict


def _evaluation(case: Case) -> tuple[Draft, Mapping[str, Any]]:
    draft = case.draft(Stage.VALIDATED_MODEL)
    return draft, json.loads((draft.path / EVALUATION).read_text())


def _schema(case: Case) -> tuple[Folder, Verdict]:
    draft = case.draft(Stage.MODEL_PACKAGE)
    package = packaging.built(draft)
    with case.shoal.client() as client:
        serving = serving_now(client, case.store.open(), case.model.name, case.model.service)
    before = serving.package.content.signature if serving.package else None
    after = package.content.signature
    assert after is not None, "model_package always writes one"
    verdict = gates.judge_schema(after, before, why_none=serving.why_none, allow_breaking=case.model.allow_breaking)
    return draft, _about(verdict, package.digest)


def _scan(case: Case) -> tuple[Folder, Verdict]:
    draft = case.draft(Stage.MODEL_PACKAGE)
    return draft, _about(packaging.judge_scan(draft, case.model), packaging.built(draft).digest)


def _signature(case: Case) -> tuple[Folder, Verdict]:
    draft = case.draft(Stage.MODEL_PACKAGE)
    verdict = packaging.judge_signature(draft, case.store.signer(), case.store.trusted())
    return draft, _about(verdict, packaging.built(draft).digest)


def _golden_replay(case: Case) -> tuple[Folder, Verdict]:
    draft = case.draft(Stage.MODEL_PACKAGE)
    found = _replayed(case, draft, again=True)
    metrics = {"requests": float(found.requests), "load_seconds": found.load_seconds}
    metrics |= {
        name: value for name, value in (("p50_ms", found.p50_ms), ("p99_ms", found.p99_ms)) if value is not None
    }
    fine = f"{found.compared} values served by the model server are as expected"
    return draft, _about(judged("golden-replay", found.problems, fine, metrics=metrics), found.digest)


def _budget(case: Case) -> tuple[Folder, Verdict]:
    draft = case.draft(Stage.MODEL_PACKAGE)
    package = packaging.built(draft)
    p99 = None
    if case.model.budget.max_p99_ms is not None:
        p99 = _replayed(case, draft, again=False).p99_ms
    return draft, _about(gates.judge_budget(package.content.size, p99, case.model.budget), package.digest)


def _replayed(case: Case, draft: Draft, *, again: bool) -> Replay:
    """The replay of a draft's package. Two checks need it in one run; `again`: not an earlier run's."""
    file, run = draft.path / _REPLAY, case.context.run.run_id
    if file.is_file():
        found = Replay.model_validate_json(file.read_text())
        if found.digest == packaging.built(draft).digest and (found.run == run or not again):
            return found
    with case.shoal.client() as client:
        found = replay(client, draft.package, case.store.open(scratch=True), case.model, run)
    file.write_text(found.model_dump_json())
    return found


def _about(verdict: Verdict, digest: str) -> Verdict:
    return verdict.model_copy(update={"subject": digest})


_JUDGES: Mapping[Gate, tuple[Judge, str]] = {
    "data": (_data, "Enough rows, finite values within bounds, every class there."),
    "metrics": (_metrics, "Every metric comes up to its threshold."),
    "champion": (_champion, "The model is as good as the one that serves now, on the same rows."),
    "schema": (_schema, "Callers of the serving revision can go on as before."),
    "scan": (_scan, "The files hold nothing that runs code when they are loaded, beyond what the format needs."),
    "signature": (_signature, "The files can be signed by a trusted key."),
    "golden-replay": (_golden_replay, "The real model server answers the samples as the model did in training."),
    "budget": (_budget, "The package is small, and its answers quick enough."),
}
