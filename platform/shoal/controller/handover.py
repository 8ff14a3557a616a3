"""Hands to the mesh what an InferenceService declares: one revision, or one with a canary over it.

The mesh knows one change at a time, so a canary is declared once the model below it serves. Its share is changed by
ending its rollout and beginning another, and it is promoted where the manifest moves it to `spec.predictor`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from shoal.controller.reading import ServiceReading, by_entry
from shoal.core.rollout.plan import IMMEDIATE
from shoal.core.rollout.record import Phase, Rollout, Verb
from shoal.core.types import RevisionId
from shoal.mesh.api import Declaration, MeshApi, RolloutRefusedError


async def hand_over(mesh: MeshApi, reading: ServiceReading, before: ServiceReading | None) -> bool:
    """Declare it. False: only the model of `spec.predictor` was declared, the canary follows once that serves.

    Raises:
        NameTakenError: another owner has its name.
        RolloutRefusedError: a rollout under way does not let this begin.
    """
    if reading.stable is None:
        return True
    stable = reading.stable.declaration
    known = [wanted.declaration for wanted in before.wanted] if before else []
    if reading.canary is None:
        await _promote_entry(mesh, stable)
        if known != [stable]:
            await mesh.declare(stable)
        return True
    canary = reading.canary.declaration
    if known == [stable, canary]:
        return True
    return await _canary(mesh, stable, canary)


async def _canary(mesh: MeshApi, stable: Declaration, canary: Declaration) -> bool:
    view = mesh.endpoint(stable.name)
    if view is None:
        await mesh.declare(stable)
    elif view.active not in (stable.revision, canary.revision):
        if view.target != stable.revision:
            plan = replace(IMMEDIATE, keep=stable.plan.keep) if stable.plan else IMMEDIATE
            await mesh.declare(replace(stable, plan=plan))
        return False
    else:
        running = _live(mesh, canary.name, canary.revision)
        if running is not None and running.plan != canary.plan:
            await mesh.declare(stable)
    await mesh.declare(canary)
    return True


async def _promote_entry(mesh: MeshApi, stable: Declaration) -> None:
    """A canary whose entry is gone and whose model is now that of `spec.predictor` takes over."""
    running = _live(mesh, stable.name, stable.revision)
    if running is None or running.shown == Phase.PROMOTING.value or not by_entry(running.by):
        return
    # It may have ended since it was looked at.
    with contextlib.suppress(RolloutRefusedError):
        await mesh.steer(
            stable.name, Verb.PROMOTE, rollout=running.id, by=stable.by, reason="its model was moved to spec.predictor"
        )


def _live(mesh: MeshApi, name: str, target: RevisionId) -> Rollout | None:
    status = mesh.rollout(name)
    return status.current if status and status.current.live and status.current.target == target else None
