"""Reads an InferenceService into what the mesh is told of it. Pure, but for the runtimes known now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shoal.controller.changed_by import started_by
from shoal.controller.kube import Document
from shoal.controller.plans import entry_plan, plan_of, required_evidence
from shoal.controller.status import DeclaredStatus
from shoal.controller.store import DeclarationStore
from shoal.core.rollout.plan import Plan
from shoal.core.types import FailureReason, RevisionId, RuntimeName, Unplaceable
from shoal.mesh.api import Declaration, ModelInfo
from shoal.resources import inferenceservice
from shoal.resources.choose import Chosen, requirements_of
from shoal.resources.evidence import required_of_runtime
from shoal.resources.inferenceservice import InferenceService
from shoal.resources.problems import InvalidManifest
from shoal.resources.revision import model_key, revision_id, type_string
from shoal.resources.source import ModelSource

_JSON = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=False)
_ENTRY = "spec.canary/"
"""How `by` of a rollout begins that an entry of `spec.canary` asked for."""


@dataclass(frozen=True, slots=True)
class WantedRevision:
    """One revision an InferenceService declares."""

    declaration: Declaration
    source: ModelSource
    chosen: Chosen | None
    requires: tuple[str, ...] = ()
    """Evidence its package must carry."""


@dataclass(frozen=True, slots=True)
class ServiceReading:
    """What an InferenceService declares."""

    declared: DeclaredStatus
    stable: WantedRevision | None = None
    """The model of `spec.predictor`; None when there is nothing to declare."""
    canary: WantedRevision | None = None
    """The model of the entry in `spec.canary`, if any."""
    runtimes: frozenset[str] = field(default=frozenset())
    """Those chosen for its models."""

    @property
    def wanted(self) -> tuple[WantedRevision, ...]:
        """All models."""
        return tuple(each for each in (self.stable, self.canary) if each is not None)


def read(document: Document, store: DeclarationStore) -> ServiceReading:
    """What a document declares, with the runtimes the store knows."""
    generation = int(document["metadata"].get("generation") or 0)
    try:
        service = inferenceservice.shape(document)
        if not service.is_ours:
            return ServiceReading(DeclaredStatus(generation, not_ours=inferenceservice.why_not_ours(service)))
        service, model = inferenceservice.parse(document)
    except InvalidManifest as error:
        return ServiceReading(DeclaredStatus(generation, invalid="; ".join(str(problem) for problem in error.problems)))
    spec = service.spec
    note = started_by(document["metadata"]).removeprefix(_ENTRY)
    stable = _wanted(service, model, store, plan_of(spec.rollout), note, document["spec"]["predictor"])
    canary = None
    if (entry := inferenceservice.parse_canary(service)) is not None:
        by = f"{_ENTRY}{entry.predictor['name']}" + (f" ({note})" if note else "")
        plan = entry_plan(spec.rollout, entry.percent)
        canary = _wanted(service, entry.model, store, plan, by, entry.predictor, stepwise=True)
        if canary.declaration.revision == stable.declaration.revision:
            canary = None
    found = [each for each in (stable, canary) if each is not None]
    runtimes = frozenset(each.chosen.runtime for each in found if each.chosen is not None)
    target = found[-1].declaration.revision
    return ServiceReading(DeclaredStatus(generation, revision=target, chosen=stable.chosen), stable, canary, runtimes)


def by_entry(by: str) -> bool:
    """Whether a rollout was asked for by an entry of `spec.canary`."""
    return by.startswith(_ENTRY)


def refuse(wanted: WantedRevision, why: Unplaceable) -> WantedRevision:
    """The same, but no runtime may load it."""
    return replace(wanted, declaration=replace(wanted.declaration, runtime=None, unplaceable=why))


def _wanted(
    service: InferenceService,
    model: ModelSource,
    store: DeclarationStore,
    plan: Plan | None,
    by: str,
    predictor: Mapping[str, Any],
    *,
    stepwise: bool = False,
) -> WantedRevision:
    found = store.choose(requirements_of(model))
    chosen = found if isinstance(found, Chosen) else None
    least, most = service.copies
    declaration = Declaration(
        name=service.name,
        revision=RevisionId(revision_id(service.name, model)),
        info=ModelInfo(type_string(model), model.path, model_key(model)),
        runtime=RuntimeName(chosen.runtime) if chosen else None,
        unplaceable=None if isinstance(found, Chosen) else Unplaceable(FailureReason(found.reason), found.message),
        min_copies=least,
        max_copies=most,
        plan=plan,
        by=by,
        predictor=_JSON.encode(predictor),
        stepwise=stepwise,
    )
    runtime = store.runtimes.get(chosen.runtime) if chosen else None
    of_runtime = required_of_runtime(runtime.metadata.annotations) if runtime else ()
    return WantedRevision(declaration, model, chosen, required_evidence(service.spec.rollout, of_runtime))
