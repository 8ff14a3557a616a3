"""The parts of the mesh that work for rollouts, built and taken down together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry

from shoal.core.rollout.record import Rollout
from shoal.core.rollout.view import RolloutView
from shoal.core.types import CopyState, EndpointName, PodId, RevisionId
from shoal.mesh.api import ModelInfo
from shoal.mesh.checks.asking import CheckAsker
from shoal.mesh.checks.observer import Observer
from shoal.mesh.checks.shadow import Shadower
from shoal.mesh.checks.warmup import CopyWarmer
from shoal.mesh.engine.engine import Engine
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.pods.link import PodLink
from shoal.mesh.rollout.metrics import RolloutCollector


class RolloutParts:
    """Watches, shadows, warms up and asks.

    Args:
        engine: runs the core, which says what to do and is told the outcome.
        links: connections by pod; changed by whoever owns it.
        in_flight: keeps copies from being unloaded under a request.
        registry: for metrics.
        info: what pods are told of a revision.
    """

    def __init__(
        self,
        engine: Engine,
        links: Mapping[PodId, PodLink],
        in_flight: InFlight,
        registry: CollectorRegistry,
        info: Callable[[RevisionId], ModelInfo | None],
    ) -> None:
        self._core = engine.core
        registry.register(RolloutCollector(self._views, engine.now))
        self.observer = Observer(engine.submit, self._newest)
        self.shadower = Shadower(self.observer, self._newest, self._loaded, links.get, in_flight, registry)
        self.warmer = CopyWarmer(engine.submit, links.get, in_flight, info, self.shadower.recent.of)
        self.asker = CheckAsker(engine.submit)

    async def run(self) -> None:
        """Report what is observed until cancelled."""
        await self.observer.run()

    async def close(self) -> None:
        """Give up what is under way."""
        await self.shadower.close()
        await self.warmer.close()
        await self.asker.close()

    def _views(self) -> Iterator[RolloutView]:
        for name in self._core.endpoints():
            if view := self._core.rollout(name):
                yield view

    def _newest(self, name: EndpointName) -> Rollout | None:
        view = self._core.rollout(name)
        return view.rollout if view else None

    def _loaded(self, revision: RevisionId) -> Sequence[PodId]:
        model = self._core.model(revision)
        return [copy.pod for copy in model.copies if copy.state is CopyState.LOADED] if model else ()
