"""The gates as blocking asset checks. Each keeps its result beside what it judged, for publishing to find it there.

A gate that cannot look at what it has to judge has failed: the run says why, and nothing is published.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import dagster as dg
from dagster_shoal import gates, packaging
from dagster_shoal.datafiles import load_dataset
from dagster_shoal.drafts import DATA_FILE, Folder, PackageDraft
from dagster_shoal.history import upstream
from dagster_shoal.leftovers import sweep
from dagster_shoal.model import Gate, ModelDefinition
from dagster_shoal.replay import Replay, replay
from dagster_shoal.resource import ShoalResource
from dagster_shoal.serving import UNSEEN, ChampionUnknown, nothing_serves, serving_package
from dagster_shoal.stages import GATES_OF, Stage, identifier
from dagster_shoal.steps import DATA, Pipeline, last_words, partitioned_checks, told
from dagster_shoal.store import ModelStore
from dagster_shoal.training import EVALUATION
from dagster_shoal.verdicts import GateVerdict, judged, unseen
from shoal.package.package import Package

_REPLAY = "replay.json"


@dataclass(frozen=True)
class Case:
    """What a gate looks at."""

    context: dg.AssetCheckExecutionContext
    model: ModelDefinition
    shoal: ShoalResource
    store: ModelStore
    folder: Folder
    """What it judges: a dataset or a draft."""

    @property
    def draft(self) -> PackageDraft:
        """The draft it judges."""
        return PackageDraft(self.folder.path)

    @property
    def package(self) -> Package:
        """The draft's."""
        return packaging.built(self.draft)

    @property
    def run(self) -> str:
        """Id of the run that asks."""
        return self.context.run.run_id


Judge: TypeAlias = Callable[[Case], GateVerdict]


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
            folder = _judged(pipeline, context, model_store, stage)
            case = Case(context, model, shoal, model_store, folder)
            subject = case.package.digest if stage is Stage.MODEL_PACKAGE else folder.id
            try:
                verdict = judge(case)
            except UNSEEN as error:
                why = last_words(error, context.retry_number)
                verdict = unseen(gate, f"{why}; then run this check again")
        verdict = verdict.model_copy(update={"run": case.run, "subject": subject})
        folder.record(verdict)
        if not verdict.passed:  # Dagster's own words for it name the check only.
            context.log.error(verdict.words)
        return result_of(verdict)

    return check


def _judged(pipeline: Pipeline, context: dg.AssetCheckExecutionContext, store: ModelStore, stage: Stage) -> Folder:
    """What the checks of a stage are about. Raises where it is not there (any more)."""
    if stage is Stage.TRAINING_DATA:
        made = upstream(context, pipeline.key(stage))
        return pipeline.drafts(context, store).data(str(made.get(DATA, "")))
    return pipeline.draft(context, store, stage)


def result_of(verdict: GateVerdict) -> dg.AssetCheckResult:
    """A gate's result as Dagster shows it."""
    details = {"findings": dg.MetadataValue.md("\n".join(f"- {line}" for line in verdict.details))}
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=verdict.summary,
        metadata={**verdict.metrics, **(details if verdict.details else {})},
    )


def _data(case: Case) -> GateVerdict:
    return gates.judge_data(load_dataset(case.folder.path / DATA_FILE), case.model.data_gate)


def _metrics(case: Case) -> GateVerdict:
    return gates.judge_metrics(_evaluation(case)["metrics"], case.model.metric_gates)


def _champion(case: Case) -> GateVerdict:
    found = _evaluation(case)
    if not isinstance(found["champion"], dict) or "which" not in found["champion"]:
        raise ChampionUnknown("the model was evaluated by an older version of Shoal; materialize validated_model again")
    return gates.judge_champion(found["metrics"], gates.Champion(**found["champion"]), case.model.metric_gates)


def _evaluation(case: Case) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((case.folder.path / EVALUATION).read_text())
    return found


def _schema(case: Case) -> GateVerdict:
    after = case.package.content.signature
    assert after is not None, "model_package always writes one"
    model = case.model
    with case.shoal.client() as client:
        champion = serving_package(client, case.store.open(), case.store.trusted(), model.name, model.service)
    if champion is None:
        return judged("schema", [], nothing_serves(model.service))
    if champion.content.signature is None:
        raise ChampionUnknown(
            f"package {champion.digest[:12]} serves and does not say what goes in and out; build it with --signature "
            f"and roll it out, or leave schema out of the model's `gates` for one version"
        )
    return gates.judge_schema(after, champion.content.signature, allow_breaking=model.allow_breaking)


def _scan(case: Case) -> GateVerdict:
    return packaging.judge_scan(case.draft, case.model)


def _signature(case: Case) -> GateVerdict:
    return packaging.judge_signature(case.draft, case.store.signer(), case.store.trusted())


def _golden_replay(case: Case) -> GateVerdict:
    found = _replayed(case, again=True)
    metrics = {"requests": float(found.requests), "load_seconds": found.load_seconds}
    metrics |= {
        name: value for name, value in (("p50_ms", found.p50_ms), ("p99_ms", found.p99_ms)) if value is not None
    }
    fine = f"{found.compared} values served by the model server are as expected"
    return judged("golden-replay", found.problems, fine, metrics=metrics)


def _budget(case: Case) -> GateVerdict:
    p99 = _replayed(case, again=False).p99_ms if case.model.budget.max_p99_ms is not None else None
    return gates.judge_budget(case.package.content.size, p99, case.model.budget)


def _replayed(case: Case, *, again: bool) -> Replay:
    """The replay of a draft's package. Two checks need it in one run; `again`: not an earlier run's."""
    file = case.folder.path / _REPLAY
    if file.is_file():
        found = Replay.model_validate_json(file.read_text())
        if found.digest == case.package.digest and (found.run == case.run or not again):
            return found
    with case.shoal.client() as client:
        for problem in sweep(client, case.store, case.context.instance):
            case.context.log.warning(problem)
        found = replay(client, case.draft.package, case.store, case.model, case.run)
    file.write_text(found.model_dump_json())
    return found


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
