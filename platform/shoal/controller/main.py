"""The controller as a whole: informers in, mesh and API told, status written. Runs beside the mesh in one process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from kubernetes import client

from shoal.controller.discovery import PodDiscovery
from shoal.controller.evidence import EvidenceGate
from shoal.controller.informers import Watcher, quiet_informers
from shoal.controller.isvcs import IsvcReconciler
from shoal.controller.kube import (
    CLUSTER_RUNTIME,
    CONFIG_MAP,
    DEPLOYMENT,
    ISVC,
    POD,
    RUNTIME,
    SECRET,
    Document,
    Kube,
    Resource,
    connect,
)
from shoal.controller.other_namespaces import Strangers
from shoal.controller.queue import WorkQueue
from shoal.controller.recorder import Recorder
from shoal.controller.render import MANAGED_BY, SERVICE_LABEL
from shoal.controller.runtimes import RuntimeReconciler
from shoal.controller.settings import ControllerSettings
from shoal.controller.standings import RuntimeStandings
from shoal.controller.store import DeclarationStore
from shoal.core.types import FailureReason, PodId, RuntimeName, Unplaceable
from shoal.mesh.api import MeshApi, RuntimeChooser
from shoal.mesh.checks.packaged import PackagedSamples
from shoal.mesh.engine.faults import Fault
from shoal.resources.choose import Chosen, requirements_from_type
from shoal.resources.evidence import TRUSTED_KEYS, required_of_runtime
from shoal.resources.settings import FACTORY_CONFIG, USER_CONFIG, without_effect

_LOG = logging.getLogger(__name__)
_Key = tuple[str, ...]
_SERVICES: _Key = ("services",)
_ORPHANS: _Key = ("orphans",)
_WATCHED = (CONFIG_MAP, SECRET, CLUSTER_RUNTIME, RUNTIME, ISVC, DEPLOYMENT, POD)
_STATUS_PAUSE = 0.1
"""Seconds between a change in the mesh and the status that tells it."""
_DEPLOYMENTS = ",".join(f"{name}={value}" for name, value in MANAGED_BY.items())


class Controller:
    """Decides what has to be looked at when an object changes; the reconcilers do the rest."""

    def __init__(
        self, settings: ControllerSettings, mesh: MeshApi, kube: Kube, clock: Callable[[], float] = time.time
    ) -> None:
        self._mesh = mesh
        self._namespace = settings.namespace
        self.store = DeclarationStore()
        self.recorder = Recorder(kube, clock)
        self.evidence = EvidenceGate(self.store, settings.claims, clock)
        mesh.set_samples(PackagedSamples(self.store.storage_entries, settings.claims))
        self._standings = RuntimeStandings(self.store, kube, self.recorder, clock)
        self._isvcs = IsvcReconciler(
            settings, self.store, mesh, kube, self.recorder, clock, self.evidence, self._standings.causes
        )
        self._runtimes = RuntimeReconciler(settings, self.store, kube, clock, self._isvcs.uses)
        self.strangers = Strangers(settings, kube, clock, self._add_stranger)
        self._pods = PodDiscovery(mesh)
        mesh.on_pod(self._pod_judged)
        self.queue: WorkQueue[_Key] = WorkQueue(self._work)

    def changed(self, resource: Resource, name: str, document: Document | None) -> None:
        """An object is as given, or gone (None)."""
        epoch = self.store.epoch
        self.store.put(resource, name, document)
        if resource is ISVC:
            if self._isvcs.is_echo(name, document):
                return
            self.queue.add(("isvc", name))
        elif resource in (RUNTIME, CLUSTER_RUNTIME):
            if self.store.epoch == epoch:
                return  # only its status changed, which is ours
            self._mesh.set_runtimes(self._chooser())
            self.queue.add(("runtime", name))
            self._all_isvcs()
        elif resource is DEPLOYMENT:
            self._all_runtimes()
        elif resource is POD:
            self._pods.changed(name, document)
            if (runtime := self._standings.pod_changed(name, document)) is not None:
                self.queue.add(("standing", runtime))
        elif resource is CONFIG_MAP and name == TRUSTED_KEYS:
            self._all_isvcs()
        elif resource is CONFIG_MAP and name in (USER_CONFIG, FACTORY_CONFIG):
            self.queue.add(_SERVICES)
            self._all_runtimes()
            self._all_isvcs()
            if document is not None:
                self._tell_settings(document)
        elif resource is SECRET and name == self.store.config.storage_secret_name:
            self._all_runtimes()
            if document is not None:
                self._tell_storage(document)

    def _pod_judged(self, pod: PodId, why: str) -> None:
        if (runtime := self._standings.pod_judged(pod, why)) is not None:
            self.queue.add(("standing", runtime))

    def _tell_settings(self, document: Document) -> None:
        """Events on the ConfigMap for what is wrong in it, or changes nothing."""
        if self.store.config_problem:
            self.recorder.tell(document, "Warning", "InvalidSettings", self.store.config_problem)
        for message in without_effect(document):
            _LOG.warning("ConfigMap %s: %s", document["metadata"]["name"], message)
            self.recorder.tell(document, "Warning", "SettingWithoutEffect", message)

    def _tell_fault(self, fault: Fault) -> None:
        """An event on the Service that everybody's requests go to: the mesh itself has a defect."""
        metadata = {"name": self.store.config.inference_service_name, "namespace": self._namespace}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
        message = f"{fault.message}; the mesh goes on, its log has the details (shoal logs mesh): please report this"
        self.recorder.tell(service, "Warning", "MeshFault", message)

    def _tell_storage(self, document: Document) -> None:
        """Events on the storage Secret for entries that are wrong; models that use others do not suffer."""
        for problem in self.store.storage_problems():
            _LOG.warning("Secret %s: %s", document["metadata"]["name"], problem)
            self.recorder.tell(document, "Warning", "InvalidStorageEntry", str(problem))

    def begin(self) -> None:
        """Everything that was declared at the start is known: look at all of it, also at what is no more."""
        self._mesh.set_runtimes(self._chooser())
        self._mesh.on_fault(self._tell_fault)
        self.queue.add(_SERVICES)
        self.queue.add(_ORPHANS)
        self._all_isvcs()
        for name in self._mesh.declared():
            self.queue.add(("isvc", name))
        self._all_runtimes()

    def handed_over(self) -> None:
        """The mesh has every declaration: from now on statuses are written."""
        self._mesh.synced()
        self._isvcs.write_statuses = True
        self._all_isvcs()

    async def follow_mesh(self) -> None:
        """Have the status written of every endpoint that changes, a little later: a cold load is over by then."""
        loop = asyncio.get_running_loop()
        pausing: set[str] = set()

        def look(name: str) -> None:
            pausing.discard(name)
            if not self._isvcs.is_waiting(name):
                self.queue.add(("isvc", name))

        async for names in self._mesh.changes():
            for name in names - pausing:  # what is looked at in a moment is seen as it is by then
                if self.store.get(ISVC, name) is not None:
                    pausing.add(name)
                    loop.call_later(_STATUS_PAUSE, look, name)

    async def _work(self, key: _Key) -> None:
        match key:
            case ("services",):
                await self._runtimes.reconcile_services()
            case ("orphans",):
                await self._runtimes.remove_orphans()
            case ("runtime", name):
                try:
                    again = await self._runtimes.reconcile(name)
                finally:
                    self.queue.add(("standing", name))
                if again is not None:
                    self.queue.add_after(key, again)
            case ("standing", name):
                await self._standing(name)
            case ("isvc", name):
                await self._isvc(name)
            case ("stranger", namespace, name):
                await self.strangers.reconcile(namespace, name)
            case _:
                raise AssertionError(key)

    async def _standing(self, runtime: str) -> None:
        """Tell how a runtime stands, also to its models where that is why they wait."""
        if self._standings.judge(runtime):
            for name in self._isvcs.users_of(runtime):
                self.queue.add(("isvc", name))
        if (again := self._standings.due(runtime)) is not None:
            self.queue.add_after(("standing", runtime), again)
        await self._standings.write(runtime)

    async def _isvc(self, name: str) -> None:
        before = self._isvcs.runtimes_of(name)
        try:
            again = await self._isvcs.reconcile(name)
            if again is not None:
                self.queue.add_after(("isvc", name), again)
        finally:
            for runtime in before ^ self._isvcs.runtimes_of(name):
                self.queue.add(("runtime", runtime))

    def _add_stranger(self, namespace: str, name: str) -> None:
        self.queue.add(("stranger", namespace, name))

    def _all_isvcs(self) -> None:
        for name in self.store.names(ISVC):
            self.queue.add(("isvc", name))

    def _all_runtimes(self) -> None:
        for name in {*self.store.names(RUNTIME), *self.store.names(CLUSTER_RUNTIME)}:
            self.queue.add(("runtime", name))

    def _chooser(self) -> RuntimeChooser:
        def choose(model_type: str) -> RuntimeName | Unplaceable:
            found = self.store.choose(requirements_from_type(model_type))
            if not isinstance(found, Chosen):
                return Unplaceable(FailureReason(found.reason), found.message)
            runtime = self.store.runtimes[found.runtime]
            if required := required_of_runtime(runtime.metadata.annotations):
                return Unplaceable(FailureReason.EVIDENCE_MISSING, _unregistrable(found.runtime, required))
            return RuntimeName(found.runtime)

        return choose


def _unregistrable(runtime: str, required: tuple[str, ...]) -> str:
    return (
        f"runtime {runtime} requires evidence ({', '.join(required)}), which a model registered through "
        "mmesh.ModelMesh has none of: publish a package (`shoal package publish`) and declare an InferenceService"
    )


async def run(settings: ControllerSettings, mesh: MeshApi, connection: client.ApiClient | None = None) -> None:
    """Control until cancelled. `mesh.synced()` is called once every object of the start was handed over.

    Raises:
        kubernetes.config.ConfigException: the API server's address is not known.
    """
    quiet_informers()
    connection = connection or connect(settings.kubeconfig)
    kube = Kube(connection, settings.namespace)
    controller = Controller(settings, mesh, kube)
    watchers = [
        Watcher(
            connection,
            resource,
            settings.namespace,
            controller.changed,
            label_selector=_selector(resource),
        )
        for resource in _watched(settings)
    ]
    if settings.sole_mesh:
        others = f"metadata.namespace!={settings.namespace}"
        watchers.append(Watcher(connection, ISVC, "", controller.strangers.changed, field_selector=others))
    try:
        async with asyncio.TaskGroup() as group:
            for watcher in watchers:
                watcher.start()
            for watcher in watchers:
                await watcher.wait_synced()
            _LOG.info("the API's objects are known: %d InferenceServices", len(controller.store.names(ISVC)))
            controller.begin()
            group.create_task(controller.queue.run(), name="controller queue")
            group.create_task(controller.recorder.run(), name="event recorder")
            await controller.queue.idle()
            controller.handed_over()
            await controller.follow_mesh()
    finally:
        await asyncio.gather(*(watcher.stop() for watcher in watchers))
        controller.evidence.close()
        kube.close()


def _watched(settings: ControllerSettings) -> list[Resource]:
    """What is needed and no more. The storage Secret says which claims to mount, and where packages are."""
    return [resource for resource in _WATCHED if resource is not CLUSTER_RUNTIME or settings.cluster_runtimes]


def _selector(resource: Resource) -> str:
    if resource is POD:
        return SERVICE_LABEL
    return _DEPLOYMENTS if resource is DEPLOYMENT else ""
