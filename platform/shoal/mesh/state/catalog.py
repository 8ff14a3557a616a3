"""What is declared: models and endpoints, in memory and in the registry at once.

Every change is durable before it is visible here, so whatever is read here survives a crash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shoal.core.rollout.record import Rollout
from shoal.core.suspicion import Suspicion
from shoal.core.types import EndpointName, RevisionId
from shoal.mesh.state import rollout_records
from shoal.mesh.state.records import (
    ENDPOINTS,
    MODELS,
    SUSPICIONS,
    USAGE,
    EndpointRecord,
    ModelRecord,
    decode_suspicion,
    decode_usage,
    encode_suspicion,
    encode_usage,
    latest,
)
from shoal.mesh.state.rollout_records import Rollouts
from shoal.registry.protocol import Delete, Put, Registry


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What became of models when the endpoints that led to them changed."""

    forgotten: tuple[RevisionId, ...] = ()
    """They went with their last endpoint."""
    idle: tuple[ModelRecord, ...] = ()
    """They are kept to go back to, and need no copies any more."""


class Catalog:
    """Durable models and endpoints.

    Args:
        registry: holds them.
        term: for which this process was elected; no other process writes while it lasts.
    """

    def __init__(self, registry: Registry, term: int) -> None:
        self._registry = registry
        self._term = term
        self.models: dict[RevisionId, ModelRecord] = {}
        self._staged: set[RevisionId] = set()
        self.endpoints: dict[EndpointName, EndpointRecord] = {}
        self.rollouts: dict[EndpointName, Rollouts] = {}
        self.last_used: dict[str, float] = {}
        self.suspicions: dict[RevisionId, Suspicion] = {}
        self._referents: defaultdict[RevisionId, set[EndpointName]] = defaultdict(set)
        self._owners: dict[EndpointName, str] = {}
        self._usage_records = 0

    async def load(self) -> None:
        """Read everything. Models that were to be deleted with their last endpoint, and were not, are deleted now."""
        for record in await self._registry.list(MODELS):
            model = ModelRecord.decode(record.value)
            self.models[model.id] = model
        for record in await self._registry.list(ENDPOINTS):
            endpoint = EndpointRecord.decode(record.value)
            self.endpoints[endpoint.name] = endpoint
            self._owners[endpoint.name] = endpoint.owner
            self._refer(endpoint)
        await self._load_rollouts()
        usage = await self._registry.list(USAGE)
        self._usage_records = len(usage)
        for record in usage:
            # Of a summary that was written in part, a model may be in two records.
            self.last_used = latest(self.last_used, decode_usage(record.value))
        for record in await self._registry.list(SUSPICIONS):
            self.suspicions[RevisionId(record.key.removeprefix(SUSPICIONS))] = decode_suspicion(record.value)
        orphans = [m.id for m in self.models.values() if m.auto_delete and not self._referents.get(m.id)]
        await self._write([Delete(MODELS + name) for name in orphans])
        for name in orphans:
            del self.models[name]
        for name in self.suspicions.keys() - self.models.keys():
            await self.set_suspicion(name, None)

    async def _load_rollouts(self) -> None:
        for record in await self._registry.list(rollout_records.CURRENT):
            rollouts = rollout_records.decode_current(record.value)
            self.rollouts[rollouts.current.endpoint] = rollouts
        for record in await self._registry.list(rollout_records.PAST):
            name = EndpointName(record.key.removeprefix(rollout_records.PAST))
            if name in self.rollouts:
                self.rollouts[name] = replace(self.rollouts[name], past=rollout_records.decode_past(record.value))

    def referents(self, revision: RevisionId) -> frozenset[EndpointName]:
        """Endpoints that lead, shall lead, or could lead back to a revision."""
        return frozenset(self._referents.get(revision, ()))

    def owner(self, name: EndpointName) -> str:
        """Whose endpoint this is, or shall be."""
        return self._owners.get(name, "")

    def claim(self, name: EndpointName, owner: str) -> None:
        """Remember whose an endpoint is that is about to be declared."""
        self._owners[name] = owner

    async def put_model(self, model: ModelRecord) -> None:
        """Add or change a model."""
        if self.models.get(model.id) != model or model.id in self._staged:
            await self._write([Put(model.key, model.encode())])
            self.models[model.id] = model
            self._staged.discard(model.id)

    def stage_model(self, model: ModelRecord) -> None:
        """Add a model that becomes durable together with the endpoint that comes to lead to it."""
        self.models[model.id] = model
        self._staged.add(model.id)

    async def set_suspicion(self, revision: RevisionId, suspicion: Suspicion | None) -> None:
        """Change what a model is charged with; None: nothing any more."""
        key = SUSPICIONS + revision
        await self._write([Put(key, encode_suspicion(suspicion)) if suspicion is not None else Delete(key)])
        if suspicion is not None:
            self.suspicions[revision] = suspicion
        else:
            self.suspicions.pop(revision, None)

    async def remove_model(self, revision: RevisionId) -> None:
        """Forget a model."""
        await self._write([Delete(MODELS + revision)])
        self.models.pop(revision, None)
        self._staged.discard(revision)

    async def set_endpoint(
        self, name: EndpointName, active: RevisionId, target: RevisionId, rollouts: Sequence[Rollout] = ()
    ) -> Aftermath:
        """Change where an endpoint leads, and how its rollouts stand, as one."""
        old, before = self.endpoints.get(name), self.rollouts.get(name)
        after = self._rollouts_after(before, rollouts)
        new = EndpointRecord(name, self.owner(name), active, target, self._retained(old, active, after))
        if old == new and after is before:
            return Aftermath()
        forgotten = self._without_referents(name, old.revisions - new.revisions if old else frozenset())
        idle = self._idle(new)
        staged = self._staged & new.revisions
        await self._write(
            [
                *(Put(self.models[revision].key, self.models[revision].encode()) for revision in sorted(staged)),
                Put(new.key, new.encode()),
                *(after.puts(before) if after and after is not before else ()),
                *(Delete(MODELS + revision) for revision in forgotten),
                *(Put(model.key, model.encode()) for model in idle),
            ]
        )
        if after:
            self.rollouts[name] = after
        self._staged -= staged
        self._replace(name, old, new)
        self._forget(forgotten)
        self.models |= {model.id: model for model in idle}
        return Aftermath(forgotten, idle)

    async def set_rollouts(self, name: EndpointName, rollouts: Sequence[Rollout]) -> None:
        """Change how the rollouts of an endpoint stand. Of one that is gone, nothing is written."""
        before = self.rollouts.get(name)
        after = self._rollouts_after(before, rollouts)
        if after and after is not before and name in self.endpoints:
            await self._write(after.puts(before))
            self.rollouts[name] = after

    async def remove_endpoint(self, name: EndpointName) -> Aftermath:
        """Forget an endpoint and its rollouts, and the models that nothing else leads to."""
        old = self.endpoints.get(name)
        if old is None:
            return Aftermath()
        forgotten = self._without_referents(name, old.revisions)
        removed = [Delete(old.key), *(Delete(MODELS + revision) for revision in forgotten)]
        await self._write([*removed, *rollout_records.deletes(name)])
        self._replace(name, old, None)
        self.rollouts.pop(name, None)
        self._forget(forgotten)
        return Aftermath(forgotten)

    def _rollouts_after(self, before: Rollouts | None, rollouts: Sequence[Rollout]) -> Rollouts | None:
        after = before
        for rollout in rollouts:
            model = self.models.get(rollout.target)
            predictor = model.predictor if model else ""
            after = after.after(rollout, predictor) if after else Rollouts(rollout, predictor)
        return after

    def _retained(
        self, old: EndpointRecord | None, active: RevisionId, rollouts: Rollouts | None
    ) -> tuple[RevisionId, ...]:
        """Revisions to keep once `active` serves: as many as the rollout that led to it says, none if none did."""
        if old is None or old.active == active:
            return old.retained if old else ()
        keep = rollouts.current.plan.keep if rollouts and rollouts.current.target == active else 0
        before = dict.fromkeys((old.active, *old.retained))
        return tuple(revision for revision in before if revision != active and revision in self.models)[:keep]

    def _without_referents(self, name: EndpointName, revisions: Iterable[RevisionId]) -> tuple[RevisionId, ...]:
        return tuple(
            revision
            for revision in sorted(revisions)
            if self._referents[revision] == {name} and (model := self.models.get(revision)) and model.auto_delete
        )

    def _idle(self, endpoint: EndpointRecord) -> tuple[ModelRecord, ...]:
        """Models only kept to go back to that were to have copies always."""
        return tuple(
            replace(model, min_copies=0)
            for revision in endpoint.retained
            if revision != endpoint.target
            and (model := self.models.get(revision))
            and model.min_copies
            and self._referents[revision] == {endpoint.name}
        )

    def _forget(self, revisions: Iterable[RevisionId]) -> None:
        for revision in revisions:
            del self.models[revision]

    def _replace(self, name: EndpointName, old: EndpointRecord | None, new: EndpointRecord | None) -> None:
        if old:
            self._unrefer(old)
        if new:
            self.endpoints[name] = new
            self._refer(new)
        else:
            self.endpoints.pop(name, None)
            self._owners.pop(name, None)

    async def adopt(self, name: EndpointName, owner: str) -> None:
        """Write down a new owner of an endpoint that exists."""
        self.claim(name, owner)
        old = self.endpoints[name]
        if old.owner != owner:
            new = replace(old, owner=owner)
            await self._write([Put(new.key, new.encode())])
            self.endpoints[name] = new

    async def save_usage(self, last_used: Mapping[str, float]) -> None:
        """Make the last uses of models durable. Of two uses of a model that are known, the later one counts."""
        newest = latest(self.last_used, last_used)
        self.last_used = {name: at for name, at in newest.items() if name in self.models}
        records = list(encode_usage(self.last_used))
        for key, value in records:
            await self._write([Put(key, value)])
        await self._write([Delete(f"{USAGE}{number:06}") for number in range(len(records), self._usage_records)])
        self._usage_records = len(records)

    async def _write(self, operations: Iterable[Put | Delete]) -> None:
        operations = list(operations)
        if operations:
            await self._registry.commit(operations, self._term)

    def _refer(self, endpoint: EndpointRecord) -> None:
        for revision in endpoint.revisions:
            self._referents[revision].add(endpoint.name)

    def _unrefer(self, endpoint: EndpointRecord) -> None:
        for revision in endpoint.revisions:
            self._referents[revision].discard(endpoint.name)
            if not self._referents[revision]:
                del self._referents[revision]
