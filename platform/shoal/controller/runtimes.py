"""Brings the pods of one runtime in order: its Deployment exists, is as rendered, and has the right number of pods."""

from __future__ import annotations

import logging
from collections.abc import Callable

from shoal.controller.kube import DEPLOYMENT, SERVICE, Document, KubeApi
from shoal.controller.render import HASH_ANNOTATION, deployment, deployment_name, services
from shoal.controller.settings import ControllerSettings
from shoal.controller.store import DeclarationStore
from shoal.resources.adapters import missing_adapter
from shoal.resources.servingruntime import ServingRuntime
from shoal.resources.settings import ModelServingConfig

_LOG = logging.getLogger(__name__)


class RuntimeReconciler:
    """Deployments of the runtimes, and the Services."""

    def __init__(
        self,
        settings: ControllerSettings,
        store: DeclarationStore,
        kube: KubeApi,
        clock: Callable[[], float],
        in_use: Callable[[str], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._kube = kube
        self._clock = clock
        self._in_use = in_use
        self._unused_since: dict[str, float] = {}
        self._settled: dict[str, tuple[str, int]] = {}
        """Deployment to the hash and generation it had when it was last written: as long as both stay, nobody else
        changed it."""

    async def reconcile(self, name: str) -> float | None:
        """Bring one in order. Returns the seconds after which it must be looked at again, if any.

        Raises:
            KubeError: the API refused; try again.
        """
        runtime = self._store.runtimes.get(name)
        if runtime is None and name in self._store.broken_runtimes:
            return None  # its pods go on with the last good spec
        if runtime is None or not self._has_pods(runtime):
            self._unused_since.pop(name, None)
            await self.remove_orphans()
            return None
        replicas, again = self._replicas(runtime)
        document = deployment(
            runtime,
            self._store.config,
            namespace=self._settings.namespace,
            replicas=replicas,
            claims=() if self._settings.claims_always_mounted else self._store.claims(),
            helper_ports=self._settings.helper_ports,
        )
        await self._write(document)
        return again

    async def remove_orphans(self) -> None:
        """Delete Deployments whose runtime is no more, such as one deleted while no controller ran."""
        names = {*self._store.broken_runtimes}
        names |= {name for name, found in self._store.runtimes.items() if self._has_pods(found)}
        expected = {deployment_name(name, self._store.config) for name in names}
        for name in self._store.names(DEPLOYMENT):
            if name not in expected:
                self._settled.pop(name, None)
                await self._kube.delete(DEPLOYMENT, name)

    async def reconcile_services(self) -> None:
        """Bring the Services in order."""
        for document in services(self._settings, self._store.config):
            await self._kube.apply(SERVICE, document)

    async def _write(self, document: Document) -> None:
        name = document["metadata"]["name"]
        digest = document["metadata"]["annotations"][HASH_ANNOTATION]
        seen = self._store.get(DEPLOYMENT, name)
        if seen is not None and self._settled.get(name) == (digest, _generation(seen)):
            return
        written = await self._kube.apply(DEPLOYMENT, document)
        self._settled[name] = digest, _generation(written)
        self._store.put(DEPLOYMENT, name, written)

    def _has_pods(self, runtime: ServingRuntime) -> bool:
        """Whether pods of it would be of any use."""
        usable = runtime.multi_model and not runtime.spec.disabled
        return usable and not missing_adapter(runtime, self._store.config)

    def _replicas(self, runtime: ServingRuntime) -> tuple[int, float | None]:
        """How many pods, and when to look again. Without models they go after the grace period, if so configured."""
        config = self._store.config
        full = configured_replicas(runtime, config)
        if not config.scale_to_zero.enabled or self._in_use(runtime.name):
            self._unused_since.pop(runtime.name, None)
            return full, None
        deployed = self._store.get(DEPLOYMENT, deployment_name(runtime.name, config))
        if deployed is None or not (deployed.get("spec") or {}).get("replicas"):
            return 0, None
        since = self._unused_since.setdefault(runtime.name, self._clock())
        left = since + config.scale_to_zero.grace_period_seconds - self._clock()
        return (full, left + 0.05) if left > 0 else (0, None)


def configured_replicas(runtime: ServingRuntime, config: ModelServingConfig) -> int:
    """How many pods a runtime has while models use it."""
    return config.pods_per_runtime if runtime.spec.replicas is None else runtime.spec.replicas


def _generation(document: Document) -> int:
    return int(document["metadata"].get("generation") or 0)
