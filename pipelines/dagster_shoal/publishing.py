"""`model_package` and `published_model`: a draft becomes a package, and one that passed all gates is published."""

import json
from collections.abc import Iterable
from typing import Any

import dagster as dg
from dagster_shoal import packaging
from dagster_shoal.drafts import Drafts, PackageDraft
from dagster_shoal.model import ModelDefinition
from dagster_shoal.resource import ShoalResource
from dagster_shoal.stages import GATES_OF, VERSION_TAG, Stage
from dagster_shoal.steps import DIGEST, DRAFT, Pipeline, refusal, told
from dagster_shoal.store import ModelStore
from dagster_shoal.training import EVALUATION
from dagster_shoal.verdicts import GateVerdict


def model_package(pipeline: Pipeline) -> dg.AssetsDefinition:
    """Builds the package in the draft's folder."""
    spec = pipeline.specs[Stage.MODEL_PACKAGE]

    @dg.multi_asset(name=pipeline.layout.op(Stage.MODEL_PACKAGE), specs=[spec])
    def build(
        context: dg.AssetExecutionContext, shoal: ShoalResource, model_store: ModelStore
    ) -> dg.MaterializeResult[Any]:
        model = pipeline.model(context)
        with told():
            draft = pipeline.draft(context, model_store, Stage.VALIDATED_MODEL)
            trained = json.loads((draft.path / "trained.json").read_text())
            rows = pipeline.drafts(context, model_store).load_data(trained["data"]).test.head(model.samples)
            lineage = {
                "dagster_run": shoal.run_link(context.run.run_id),
                "code_version": model.code_version or None,
                "data_version": trained["data"],
            }
            metrics = json.loads((draft.path / EVALUATION).read_text())["metrics"]
            package = packaging.build(draft, model, rows, metrics, lineage)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(package.digest),
            metadata={DRAFT: draft.id, DIGEST: package.digest, **packaging.shown(package)},
        )

    return build


def published_model(pipeline: Pipeline) -> dg.AssetsDefinition:
    """Publishes the package with the signed results of its gates; refuses while one is missing or failed."""
    spec = pipeline.specs[Stage.PUBLISHED_MODEL]

    @dg.multi_asset(name=pipeline.layout.op(Stage.PUBLISHED_MODEL), specs=[spec])
    def publish(context: dg.AssetExecutionContext, model_store: ModelStore) -> dg.MaterializeResult[Any]:
        model = pipeline.model(context)
        with told():
            draft = pipeline.draft(context, model_store, Stage.MODEL_PACKAGE)
            verdicts = gathered(draft, pipeline.drafts(context, model_store), model)
            found = packaging.publish(draft, model, verdicts, model_store)
        context.instance.add_run_tags(context.run.run_id, {VERSION_TAG: found.digest[:12]})
        return dg.MaterializeResult(
            data_version=dg.DataVersion(found.digest),
            metadata={
                DIGEST: found.digest,
                "version": found.digest[:12],
                "dagster/uri": found.uri,
                "first_published_now": found.created,
                "evidence": packaging.evidence_table(verdicts),
            },
        )

    return publish


def gathered(draft: PackageDraft, drafts: Drafts, model: ModelDefinition) -> list[GateVerdict]:
    """The results of all gates of a model about this very draft and its package.

    A blocking check stops only the run it is in; this stops everybody.

    Raises:
        Failure: one did not run, is about something else, or did not pass; all of them are named.
    """
    digest = packaging.built(draft).digest
    data_id = str(json.loads((draft.path / "trained.json").read_text())["data"])
    subjects = {Stage.TRAINING_DATA: data_id, Stage.VALIDATED_MODEL: draft.id, Stage.MODEL_PACKAGE: digest}
    verdicts, problems = [], []
    for stage, gates in GATES_OF.items():
        folder = drafts.data(data_id) if stage is Stage.TRAINING_DATA else draft
        for gate in (gate for gate in gates if gate in model.gates):
            verdict = folder.verdict(gate)
            if verdict is None:
                problems.append(f"{gate} did not run; run the checks of {stage.value}")
            elif verdict.subject != subjects[stage]:
                problems.append(f"{gate} judged {verdict.subject[:12]}, not this {stage.value}; run it again")
            elif not verdict.passed:
                problems.append(verdict.words)
            else:
                verdicts.append(verdict)
    if problems:
        raise refusal(f"{model.name} {digest[:12]} is not published: {'; '.join(problems)}", _as_metadata(problems))
    return verdicts


def _as_metadata(problems: Iterable[str]) -> dict[str, object]:
    return {"gates": dg.MetadataValue.md("\n".join(f"- {problem}" for problem in problems))}
