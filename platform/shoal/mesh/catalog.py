"""What is declared: models and endpoints, in memory and in the registry at once.

Every change is durable before it is visible here, so whatever is read here survives a crash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from shoal.core.rollout.record import Rollout
from shoal.core.types import EndpointName, RevisionId
from shoal.mesh.records import (
    ENDPOINTS,
    MODELS,
    USAGE,
    EndpointRecord,
    ModelRecord,
    RolloutRecord,
    decode_usage,
    encode_usage,
)
from shoal.registry.protocol import Delete, Put, Registry, RegistryError


class Catalog:
    """Durable models and endpoints. One process writes at a time."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.models: dict[RevisionId, ModelRecord] = {}
        self.endpoints: dict[EndpointName, EndpointRecord] = {}
        self.rollouts: dict[EndpointName, RolloutRecord] = {}
        self.last_used: dict[str, float] = {}
        self._referents: defaultdict[RevisionId, set[EndpointName]] = defaultdict(set)
        self._owners: dict[EndpointName, str] = {}
        self._usage_records = 0

    async def load(self) -> None:
        """Read everything. Models that were to be deleted with their last endpoint, and were not, are deleted now."""
        for record in (await self._registry.list(MODELS)).records:
            model = ModelRecord.decode(record.value)
            self.models[model.id] = model
        for record in (await self._registry.list(ENDPOINTS)).records:
            endpoint = EndpointRecord.decode(record.value)
            self.endpoints[endpoint.name] = endpoint
            self._owners[endpoint.name] = endpoint.owner
            self._refer(endpoint)
        usage = (await self._registry.list(USAGE)).records
        self._usage_records = len(usage)
        for record in usage:
            self.last_used |= decode_usage(record.value)
        orphans = [m.id for m in self.models.values() if m.auto_delete and not self._referents.get(m.id)]
        await self._write([Delete(MODELS + name) for name in orphans])
        for name in orphans:
            del self.models[name]

    def referents(self, revision: RevisionId) -> frozenset[EndpointName]:
        """Endpoints that lead, or shall lead, to a revision."""
        return frozenset(self._referents.get(revision, ()))

    def owner(self, name: EndpointName) -> str:
        """Whose endpoint this is, or shall be."""
        return self._owners.get(name, "")

    def claim(self, name: EndpointName, owner: str) -> None:
        """Remember whose an endpoint is that is about to be declared."""
        self._owners[name] = owner

    async def put_model(self, model: ModelRecord) -> None:
        """Add or change a model."""
        if self.models.get(model.id) != model:
            await self._write([Put(model.key, model.encode())])
            self.models[model.id] = model

    async def remove_model(self, revision: RevisionId) -> None:
        """Forget a model."""
        await self._write([Delete(MODELS + revision)])
        self.models.pop(revision, None)

    async def set_endpoint(
        self, name: EndpointName, active: RevisionId | None, target: RevisionId | None
    ) -> tuple[RevisionId, ...]:
        """Change where an endpoint leads (None: forget it). Returns the models that went with their last referent."""
        old = self.endpoints.get(name)
        new = EndpointRecord(name, self.owner(name), active, target) if active and target else None
        if old == new:
            return ()
        kept = {new.active, new.target} if new else set()
        dropped = tuple(
            revision
            for revision in sorted({old.active, old.target} - kept if old else ())
            if self._referents[revision] == {name} and (model := self.models.get(revision)) and model.auto_delete
        )
        change: Put | Delete = Put(new.key, new.encode()) if new else Delete(ENDPOINTS + name)
        await self._write([change, *(Delete(MODELS + revision) for revision in dropped)])
        if old:
            self._unrefer(old)
        if new:
            self.endpoints[name] = new
            self._refer(new)
        else:
            self.endpoints.pop(name, None)
            self._owners.pop(name, None)
        for revision in dropped:
            del self.models[revision]
        return dropped

    async def adopt(self, name: EndpointName, owner: str) -> None:
        """Write down a new owner of an endpoint that exists."""
        self.claim(name, owner)
        old = self.endpoints[name]
        if old.owner != owner:
            new = replace(old, owner=owner)
            await self._write([Put(new.key, new.encode())])
            self.endpoints[name] = new

    async def put_rollout(self, rollout: Rollout) -> None:
        """Write down how a rollout stands."""
        record = RolloutRecord(rollout)
        await self._write([Put(record.key, record.encode())])
        self.rollouts[rollout.endpoint] = record

    async def save_usage(self, last_used: Mapping[str, float]) -> None:
        """Make the last uses of models durable."""
        known = {name: at for name, at in last_used.items() if name in self.models}
        records = list(encode_usage(known))
        for key, value in records:
            await self._write([Put(key, value)])
        await self._write([Delete(f"{USAGE}{number:06}") for number in range(len(records), self._usage_records)])
        self._usage_records = len(records)

    async def _write(self, operations: Iterable[Put | Delete]) -> None:
        operations = list(operations)
        if operations and await self._registry.commit(operations) is None:
            raise RegistryError("the registry refused a write without a condition")

    def _refer(self, endpoint: EndpointRecord) -> None:
        for revision in (endpoint.active, endpoint.target):
            self._referents[revision].add(endpoint.name)

    def _unrefer(self, endpoint: EndpointRecord) -> None:
        for revision in (endpoint.active, endpoint.target):
            self._referents[revision].discard(endpoint.name)
            if not self._referents[revision]:
                del self._referents[revision]
