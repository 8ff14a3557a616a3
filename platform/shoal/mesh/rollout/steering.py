"""What others see of rollouts, and how they steer them: the rollouts' part of `MeshApi`."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.core.events import RolloutCommanded
from shoal.core.rollout.commands import refusal
from shoal.core.rollout.record import Rollout, Verb
from shoal.core.types import EndpointName
from shoal.mesh.api import RolloutHistory, RolloutRefusedError
from shoal.mesh.engine.engine import Engine
from shoal.mesh.state.catalog import Catalog
from shoal.mesh.state.rollout_records import fit


class Steering:
    """Shows and steers rollouts.

    Args:
        engine: runs the core.
        catalog: durable records.
    """

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine = engine
        self._catalog = catalog

    def now(self) -> float:
        """The core's time."""
        return self._engine.now()

    def status(self, name: str) -> RolloutHistory | None:
        """See `MeshApi.rollout`."""
        view = self._engine.core.rollout(EndpointName(name))
        kept = self._catalog.rollouts.get(EndpointName(name))
        endpoint = self._catalog.endpoints.get(EndpointName(name))
        if view is None or kept is None or endpoint is None:
            return None
        known = {revision: self._catalog.models.get(revision) for revision in endpoint.revisions}
        return RolloutHistory(
            view.rollout,
            kept.predictor,
            view.active_window,
            view.target_window,
            endpoint.retained,
            kept.past,
            {revision: model.predictor for revision, model in known.items() if model and model.predictor},
        )

    def all(self) -> Iterator[RolloutHistory]:
        """The newest rollout of every endpoint that ever had one, by name."""
        for name in sorted(self._catalog.rollouts):
            if status := self.status(name):
                yield status

    async def steer(self, name: str, verb: Verb, *, rollout: str = "", by: str = "", reason: str = "") -> Rollout:
        """See `MeshApi.steer`."""
        newest = self._newest(name)
        if rollout and rollout != newest.id:
            raise RolloutRefusedError(
                f"the newest rollout of {name} is {newest.id}, not {rollout}: leave the id away to mean the newest"
            )
        if why := refusal(newest, verb):
            raise RolloutRefusedError(why)
        await self._engine.apply(RolloutCommanded(newest.endpoint, newest.id, verb, fit(by), fit(reason)))
        return self._newest(name)

    def _newest(self, name: str) -> Rollout:
        view = self._engine.core.rollout(EndpointName(name))
        if view is None:
            raise RolloutRefusedError(f"{name} has no rollout: declare another revision with a spec.rollout")
        return view.rollout
