"""Declared models and endpoints: every change is made durable, then told to the core."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final

import grpc

from shoal.core.actions import Persist, PersistRollout
from shoal.core.events import (
    EndpointDeclared,
    EndpointRemoved,
    EnsureLoaded,
    ModelDeclared,
    ModelRemoved,
    Released,
    SuspicionRestored,
    UnloadRequested,
)
from shoal.core.suspicion import Suspicion
from shoal.core.types import (
    EndpointName,
    EndpointView,
    FailureReason,
    ModelState,
    ModelView,
    RevisionId,
    RevisionSpec,
    RuntimeName,
    Transition,
    Unplaceable,
)
from shoal.mesh.api import Declaration, ModelInfo, NameTakenError, RolloutRefusedError, RuntimeChooser
from shoal.mesh.engine.change_feed import ChangeFeed
from shoal.mesh.engine.engine import Engine
from shoal.mesh.errors import RequestError
from shoal.mesh.state import rollout_declarations as declarations
from shoal.mesh.state.catalog import Aftermath, Catalog
from shoal.mesh.state.records import ModelRecord
from shoal.mesh.state.turns import Turns
from shoal.registry.protocol import RegistryError

log = logging.getLogger(__name__)

NEW_MODEL_AGE: Final = 3600.0
"""A newly declared model counts as last used an hour ago, so that declaring many does not push out what is in use
(upstream's rule for models registered with `loadNow`)."""

_SETTLED: Final = (ModelState.LOADED, ModelState.FAILED_TO_LOAD)
_UNKNOWN_YET: Final = Unplaceable(FailureReason.RUNTIME_UNHEALTHY, "The serving runtimes are not known yet")


class Models:
    """What is declared, and how it stands.

    Args:
        engine: runs the core.
        catalog: durable records.
        feed: announces changes of endpoints and revisions by name.
    """

    def __init__(self, engine: Engine, catalog: Catalog, feed: ChangeFeed) -> None:
        self._engine = engine
        self._catalog = catalog
        self._feed = feed
        self._turns = Turns()
        # By endpoint and rollout, only the newest of each.
        self._unsaved: defaultdict[EndpointName, dict[str, Persist | PersistRollout]] = defaultdict(dict)
        self._choose: RuntimeChooser | None = None

    # --- looking ----------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The core's time."""
        return self._engine.now()

    def model(self, revision: str) -> ModelView | None:
        """How a revision stands."""
        return self._engine.core.model(RevisionId(revision))

    def alias(self, name: str) -> EndpointView | None:
        """How an endpoint stands."""
        return self._engine.core.endpoint(EndpointName(name))

    def wanted(self, endpoint: EndpointView) -> RevisionId:
        """The revision an endpoint shall lead to: the declared one, unless that was rolled back."""
        rollouts = self._catalog.rollouts.get(endpoint.name)
        return endpoint.active if rollouts and rollouts.holds(endpoint.target) else endpoint.target

    def owner(self, name: str) -> str:
        """Whose endpoint it is; empty if nobody's."""
        return self._catalog.owner(EndpointName(name))

    def aliases(self) -> Iterator[EndpointView]:
        """All endpoints, by name."""
        for name in sorted(self._catalog.endpoints):
            if view := self.alias(name):
                yield view

    def runtime_of(self, revision: str) -> RuntimeName | None:
        """The runtime chosen for a revision."""
        record = self._catalog.models.get(RevisionId(revision))
        return record.runtime if record else None

    def info(self, revision: str) -> ModelInfo | None:
        """What a pod needs to load a revision."""
        record = self._catalog.models.get(RevisionId(revision))
        return record.info if record else None

    def endpoints_of(self, revision: str) -> frozenset[EndpointName]:
        """Endpoints that lead to a revision."""
        return self._catalog.referents(RevisionId(revision))

    async def settled(self, revision: str, timeout: float) -> None:
        """Wait until a revision is loaded or failed. Raises TimeoutError."""

        def over() -> bool:
            view = self.model(revision)
            return view is None or view.state in _SETTLED

        await self._feed.until(revision, over, timeout)

    async def transition_over(self, name: str, timeout: float) -> None:
        """Wait until an endpoint's change of revision is over, or blocked. Raises TimeoutError."""

        def over() -> bool:
            view = self.alias(name)
            return view is None or view.transition is not Transition.IN_PROGRESS

        await self._feed.until(name, over, timeout)

    # --- models clients register -------------------------------------------------------------------------------------

    async def register(
        self, revision: RevisionId, info: ModelInfo, last_used: float, *, auto_delete: bool = False
    ) -> bool:
        """Add a model. False if it is there already.

        Raises:
            RequestError: ALREADY_EXISTS, it is there with other attributes.
        """
        async with self._turns.of(revision):
            record = self._registered(revision, info, auto_delete)
            if record is None:
                await self._catalog.put_model(self._catalog.models[revision])  # unless it is durable already
            else:
                await self._put(record, last_used, load=False)
            return record is not None

    def _registered(self, revision: RevisionId, info: ModelInfo, auto_delete: bool) -> ModelRecord | None:
        """The record of a model that is to be added; None if it is there already. Raises RequestError."""
        existing = self._catalog.models.get(revision)
        if existing:
            if existing.info != info:
                raise RequestError(
                    grpc.StatusCode.ALREADY_EXISTS, f"Model {revision} already exists with different attribute values"
                )
            return None
        runtime, why = self._chosen(info.type)
        return ModelRecord(revision, info, runtime, why, auto_delete=auto_delete)

    async def unregister(self, revision: RevisionId) -> None:
        """Remove a model. Fine if there is none.

        Raises:
            RequestError: FAILED_PRECONDITION, endpoints lead to it.
        """
        async with self._turns.alone():
            referents = self._catalog.referents(revision)
            if referents:
                names = ", ".join(sorted(referents)[:3])
                raise RequestError(
                    grpc.StatusCode.FAILED_PRECONDITION, f"Model {revision} has referents: {names}; delete them first"
                )
            if revision in self._catalog.models:
                await self._catalog.remove_model(revision)
                await self._engine.apply(ModelRemoved(revision))

    async def ensure_loaded(self, revision: str, last_used: float = 0.0, *, retry: bool = False) -> None:
        """Start loading a model that is declared, unless it is loaded or loading; `retry`: also if it failed before."""
        await self._engine.apply(EnsureLoaded(RevisionId(revision), last_used, retry))

    async def release(self, revision: str) -> None:
        """Let a quarantined model be loaded again."""
        await self._engine.apply(Released(RevisionId(revision)))

    async def touch(self, revision: RevisionId, last_used: float) -> None:
        """Move a model forward in the order of eviction."""
        record = self._catalog.models[revision]
        await self._engine.apply(ModelDeclared(_spec(record), last_used))

    async def unload(self, revision: str) -> None:
        """Evict a model from all pods; it is loaded again when asked for."""
        await self._engine.apply(UnloadRequested(RevisionId(revision)))

    async def set_alias(
        self,
        name: str,
        target: RevisionId,
        *,
        info: ModelInfo | None,
        owner: str,
        auto_delete: bool,
        load: bool,
        force: bool,
    ) -> None:
        """Let an endpoint lead to `target`, which `info` declares if it is new.

        Raises:
            RequestError: NOT_FOUND, no such model and no `info`; ALREADY_EXISTS, a model with other attributes.
        """
        endpoint = EndpointName(name)
        age = NEW_MODEL_AGE if load else 6 * NEW_MODEL_AGE

        async def change() -> None:
            if info:
                record = self._registered(target, info, auto_delete)
                if record is not None and new:  # both become durable together
                    self._catalog.stage_model(record)
                    self._engine.submit(ModelDeclared(_spec(record), self.now() - age))
                elif record is not None:
                    await self._put(record, self.now() - age, load=False)
            elif target not in self._catalog.models:
                raise RequestError(grpc.StatusCode.NOT_FOUND, f"model not found: {target}")
            self._catalog.claim(endpoint, owner)
            await self._engine.apply(EndpointDeclared(endpoint, target, force=force))
            if load:
                await self.ensure_loaded(target, self.now() - age)

        async with self._turns.of(name, target):
            if new := endpoint not in self._catalog.endpoints:
                await change()
        if not new:  # models it led to may go with the change
            async with self._turns.alone():
                await change()

    async def remove_alias(self, name: str) -> None:
        """Remove an endpoint, and with it the models that nothing else leads to. Fine if there is none."""
        async with self._turns.alone():
            if EndpointName(name) in self._catalog.endpoints:
                await self._engine.apply(EndpointRemoved(EndpointName(name)))

    # --- models the controller declares ------------------------------------------------------------------------------

    async def declare(self, declaration: Declaration) -> None:
        """See `MeshApi.declare`."""
        name = EndpointName(declaration.name)
        async with self._turns.alone():
            existing = self._catalog.endpoints.get(name)
            if existing and existing.owner != declaration.owner:
                raise NameTakenError(
                    f"the name {name} is taken by an alias of owner {existing.owner!r}: delete that or choose another"
                )
            rollouts = self._catalog.rollouts.get(name)
            before = self._catalog.models.get(declaration.revision)
            moves = (
                existing is None
                or existing.target != declaration.revision
                or declarations.begins_again(existing, rollouts, before, declaration)
            )
            if moves and (why := declarations.refused(rollouts, declaration)):
                raise RolloutRefusedError(why)
            record = ModelRecord(
                declaration.revision,
                declaration.info,
                declaration.runtime,
                declaration.unplaceable,
                declaration.min_copies,
                declaration.max_copies,
                auto_delete=True,
                declared=True,
                predictor=declaration.predictor,
            )
            if before != record:
                await self._put(record, self.now() - NEW_MODEL_AGE, load=before is None)
            if moves:
                self._catalog.claim(name, declaration.owner)
                await self._engine.apply(declarations.declared(existing, rollouts, declaration))

    async def undeclare(self, name: str, owner: str = "isvc") -> None:
        """See `MeshApi.undeclare`."""
        if self.owner(name) == owner:
            await self.remove_alias(name)

    def declared_by(self, owner: str) -> frozenset[EndpointName]:
        """Names of all endpoints of one owner."""
        return frozenset(name for name, record in self._catalog.endpoints.items() if record.owner == owner)

    async def set_runtimes(self, choose: RuntimeChooser) -> None:
        """Choose anew for all models whose runtime follows from their type string."""
        async with self._turns.alone():
            self._choose = choose
            for record in list(self._catalog.models.values()):
                if record.declared:
                    continue
                runtime, why = self._chosen(record.info.type)
                if (runtime, why) != (record.runtime, record.unplaceable):
                    await self._put(replace(record, runtime=runtime, unplaceable=why), 0.0, load=False)

    def _chosen(self, type_string: str) -> tuple[RuntimeName | None, Unplaceable | None]:
        if self._choose is None:
            return None, _UNKNOWN_YET
        chosen = self._choose(type_string)
        return (None, chosen) if isinstance(chosen, Unplaceable) else (chosen, None)

    # --- durability --------------------------------------------------------------------------------------------------

    async def _put(self, record: ModelRecord, last_used: float, *, load: bool) -> None:
        await self._catalog.put_model(record)
        await self._engine.apply(ModelDeclared(_spec(record), last_used, load))

    async def persist(self, actions: Sequence[Persist | PersistRollout]) -> None:
        """Make endpoints and rollouts durable: all that concerns one endpoint at once, so that a crash leaves it as it
        was before or as it is after. What nothing leads to any more is removed next.

        Raises:
            RegistryError: not all of it; what is left is tried again with the next call.
        """
        for action in actions:
            if isinstance(action, Persist):
                self._unsaved[action.name][""] = action
            else:
                self._unsaved[action.rollout.endpoint][action.rollout.id] = action
        # Nothing goes when an endpoint comes, so new ones need not wait for each other. What goes with the others
        # depends on all that lead to it.
        new = [name for name in self._unsaved if name not in self._catalog.endpoints]
        others = [name for name in self._unsaved if name in self._catalog.endpoints]
        failures = [*await asyncio.gather(*map(self._try_save, new)), *[await self._try_save(name) for name in others]]
        for failure in filter(None, failures):
            raise failure

    async def _try_save(self, name: EndpointName) -> RegistryError | None:
        """Make durable what is left of one endpoint: why it could not be, or None."""
        try:
            await self._save(name, self._unsaved[name].values())
        except RegistryError as error:
            return error
        del self._unsaved[name]
        return None

    async def keep_suspicion(self, revision: RevisionId, suspicion: Suspicion | None) -> None:
        """Make durable what a model is charged with. Where that fails, a restart of the mesh forgets it."""
        try:
            await self._catalog.set_suspicion(revision, suspicion)
        except RegistryError as error:
            log.warning("the charge of %s is not durable: %s", revision, error)

    async def _save(self, name: EndpointName, actions: Collection[Persist | PersistRollout]) -> None:
        rollouts = [action.rollout for action in actions if isinstance(action, PersistRollout)]
        last = next((action for action in actions if isinstance(action, Persist)), None)
        if last is None:
            await self._catalog.set_rollouts(name, rollouts)
        elif last.active and last.target:
            self._settle(await self._catalog.set_endpoint(name, last.active, last.target, rollouts))
        else:
            self._settle(await self._catalog.remove_endpoint(name))

    def _settle(self, after: Aftermath) -> None:
        for revision in after.forgotten:
            self._engine.submit(ModelRemoved(revision))
        for model in after.idle:
            self._engine.submit(ModelDeclared(_spec(model)))

    async def restore(self, tell: Callable[[str], None]) -> None:
        """Tell the core everything the registry holds, after a start."""
        await self._catalog.load()
        models, endpoints = self._catalog.models.values(), self._catalog.endpoints.values()
        for record in list(models):
            self._engine.submit(ModelDeclared(_spec(record), self._catalog.last_used.get(record.id, 0.0)))
        for revision, suspicion in list(self._catalog.suspicions.items()):
            self._engine.submit(SuspicionRestored(revision, suspicion))
        for endpoint in list(endpoints):
            await self._engine.apply(declarations.restored(endpoint, self._catalog.rollouts.get(endpoint.name)))
        tell(f"{len(models)} models and {len(endpoints)} endpoints")


def _spec(record: ModelRecord) -> RevisionSpec:
    return RevisionSpec(
        record.id,
        record.runtime,
        record.unplaceable,
        min_copies=record.min_copies,
        max_copies=record.max_copies,
    )
