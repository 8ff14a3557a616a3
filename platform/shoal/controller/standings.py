"""Tells how the runtimes stand: in their status, by an event for each cause, and to those who write of their models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from shoal.controller.conditions import condition
from shoal.controller.kube import CLUSTER_RUNTIME, DEPLOYMENT, RUNTIME, Document, KubeApi, KubeError, Resource
from shoal.controller.pods import RUNTIME_ANNOTATION
from shoal.controller.recorder import Recorder
from shoal.controller.render import SERVICE_LABEL, deployment_name
from shoal.controller.runtimes import configured_replicas
from shoal.controller.runtimestatus import READY, RuntimeStanding, status_of, unusable, with_pods
from shoal.controller.status import merge_patch, status_patch
from shoal.controller.store import DeclarationStore
from shoal.controller.troubles import PodsStanding, Unusable, standing_of, uncreated_pods
from shoal.resources.adapters import missing_adapter


@dataclass(frozen=True, slots=True)
class _Judged:
    """A runtime as it was when it was judged."""

    resource: Resource
    document: Document
    standing: RuntimeStanding


class RuntimeStandings:
    """ServingRuntimes of the namespace and ClusterServingRuntimes, with the pods of each."""

    def __init__(self, store: DeclarationStore, kube: KubeApi, recorder: Recorder, clock: Callable[[], float]) -> None:
        self._store = store
        self._kube = kube
        self._recorder = recorder
        self._clock = clock
        self._runtime_of: dict[str, str] = {}
        self._pods: dict[str, dict[str, Document]] = {}
        self._pods_of: dict[str, PodsStanding] = {}
        self._unusable: dict[str, Unusable] = {}
        """Pods that the mesh cannot use."""
        self._judged: dict[str, _Judged] = {}
        self._told: dict[str, str] = {}
        """Runtime to the message last written."""
        self._causes: dict[str, str] = {}

    @property
    def causes(self) -> Mapping[str, str]:
        """Why no pod of a runtime can take a model; only runtimes of which that is known. A live view."""
        return self._causes

    def pod_changed(self, name: str, pod: Document | None) -> str | None:
        """A pod is as given, or gone (None). Returns the runtime whose pods stand in another way now, if any."""
        runtime = self._runtime_of.get(name) if pod is None else _runtime_of(pod)
        if runtime is None:
            return None
        if pod is None:
            self._runtime_of.pop(name, None)
            self._unusable.pop(name, None)
            self._pods[runtime].pop(name, None)
        else:
            self._runtime_of[name] = runtime
            self._pods.setdefault(runtime, {})[name] = pod
        return runtime if self._count(runtime) else None

    def pod_judged(self, name: str, why: str) -> str | None:
        """The mesh can use a pod (empty), or cannot, and why. Returns the runtime that stands in another way now."""
        known = self._unusable.get(name)
        runtime = self._runtime_of.get(name)
        if runtime is None or (known.why if known is not None else "") == why:
            return None
        if why:
            self._unusable[name] = Unusable(why, known.since if known is not None else self._clock())
        else:
            del self._unusable[name]
        return runtime if self._count(runtime) else None

    def _count(self, runtime: str) -> bool:
        """Look at the pods of a runtime. Returns whether they stand in another way than before."""
        before = self._pods_of.get(runtime, PodsStanding())
        pods = self._pods.get(runtime, {})
        now = standing_of(runtime, pods.values(), self._clock(), before.trouble, self._unusable)
        if pods:
            self._pods_of[runtime] = now
        else:
            self._pods.pop(runtime, None)
            self._pods_of.pop(runtime, None)
        return now != before

    def judge(self, name: str) -> bool:
        """Look at one anew. Returns whether its models have another cause to wait for a pod than before."""
        self._count(name)
        before = self._causes.pop(name, "")
        resource, document = self._find(name)
        standing = None if document is None else self._standing_of(name, document)
        if document is None or standing is None:
            self._judged.pop(name, None)
            self._told.pop(name, None)
            return before != ""
        self._judged[name] = _Judged(resource, document, standing)
        if standing.cause:
            self._causes[name] = standing.cause
        return standing.cause != before

    def due(self, name: str) -> float | None:
        """The seconds after which one must be judged anew although nothing may have changed, if any."""
        until = self._pods_of.get(name, PodsStanding()).until
        return None if until is None else max(0.0, until - self._clock())

    async def write(self, name: str) -> None:
        """Write the status of one as it was judged last, if that is not what it says.

        Raises:
            KubeError: the API refused; judge it again, and try again.
        """
        judged = self._judged.get(name)
        if judged is None:
            return
        document, standing = judged.document, judged.standing
        old: Document = document.get("status") or {}
        generation = int(document["metadata"].get("generation") or 0)
        if patch := merge_patch(old, status_of(standing, generation, old, self._clock())):
            try:
                written = await self._kube.merge(judged.resource, name, status_patch(document, patch), "status")
            except KubeError as error:
                if not error.is_missing:
                    raise
                return  # it was deleted meanwhile
            if self._store.get(judged.resource, name) is document:
                self._store.put(judged.resource, name, written)
        before = self._told.get(name, str(condition(old, READY).get("message", "")))
        self._told[name] = standing.message
        if standing.trouble and not before.endswith(standing.trouble):
            self._recorder.tell(document, "Warning", standing.reason, standing.trouble)

    def _find(self, name: str) -> tuple[Resource, Document | None]:
        """The runtime that counts under a name."""
        usable = self._store.runtimes.get(name)
        own = self._store.get(RUNTIME, name)
        if own is None or (usable is not None and usable.cluster_wide):
            return CLUSTER_RUNTIME, self._store.get(CLUSTER_RUNTIME, name)
        return RUNTIME, own

    def _standing_of(self, name: str, document: Document) -> RuntimeStanding | None:
        """None for one that is not Shoal's business, or going."""
        runtime = self._store.runtimes.get(name)
        if runtime is None:
            broken = self._store.broken_runtimes.get(name)
            return None if broken is None else unusable("InvalidSpec", broken)
        if not runtime.multi_model:
            return _left_alone(document)
        if runtime.spec.disabled:
            return RuntimeStanding(
                False, "Disabled", "spec.disabled is true: it has no pods, and no model is given to it"
            )
        config = self._store.config
        if lacking := missing_adapter(runtime, config):
            return unusable("NoAdapter", f"runtime {name}: {lacking}")
        if configured_replicas(runtime, config) == 0:
            where = "podsPerRuntime of model-serving-config" if runtime.spec.replicas is None else "its spec.replicas"
            return unusable("NoReplicas", f"runtime {name} has no pods, because {where} is 0")
        deployment = self._store.get(DEPLOYMENT, deployment_name(name, config))
        pods = self._pods_of.get(name, PodsStanding())
        if pods.trouble is None and (held := uncreated_pods(name, deployment)) is not None:
            pods = replace(pods, trouble=held)
        wanted = (deployment or {}).get("spec", {}).get("replicas")
        return with_pods(pods, wanted)


def _left_alone(document: Document) -> RuntimeStanding | None:
    """What to say of one that was Shoal's before; nothing where nothing was said yet."""
    if not condition(document.get("status") or {}, READY):
        return None
    return RuntimeStanding(False, "NotMultiModel", "spec.multiModel is not true, so Shoal leaves it to KServe")


def _runtime_of(pod: Document) -> str | None:
    metadata = pod["metadata"]
    if SERVICE_LABEL not in (metadata.get("labels") or {}):
        return None
    found = (metadata.get("annotations") or {}).get(RUNTIME_ANNOTATION)
    return None if found is None else str(found)
