"""What a declaration, or a record found after a restart, means for the rollouts of an endpoint. Pure."""

from __future__ import annotations

from dataclasses import replace

from shoal.core.events import EndpointDeclared
from shoal.core.rollout.plan import IMMEDIATE, Plan
from shoal.core.types import EndpointName
from shoal.mesh.api import Declaration
from shoal.mesh.state.records import EndpointRecord, ModelRecord
from shoal.mesh.state.rollout_records import MAX_PLAN_BYTES, Rollouts, fit, plan_bytes


def refused(rollouts: Rollouts | None, declaration: Declaration) -> str | None:
    """Why an endpoint may not be led elsewhere by this declaration now; None if it may."""
    if rollouts and (running := rollouts.current).live and not running.plan.supersede:
        return (
            f"rollout {running.id} to {running.target} is under way and lets no other begin "
            "(spec.rollout.onConflict: refuse): wait until it ends, or abort it"
        )
    if declaration.plan and (size := plan_bytes(declaration.plan)) > MAX_PLAN_BYTES:
        return (
            f"spec.rollout: takes {size} bytes, and {MAX_PLAN_BYTES} are allowed: "
            "declare fewer steps or checks, or shorter queries"
        )
    return None


def declared(existing: EndpointRecord | None, rollouts: Rollouts | None, declaration: Declaration) -> EndpointDeclared:
    """How the core is told of a declaration."""
    plan = _plan(existing, declaration)
    number = rollouts.number + 1 if rollouts else 1
    return EndpointDeclared(
        EndpointName(declaration.name),
        declaration.revision,
        plan=plan,
        rollout=f"{declaration.name}-{number}" if plan else "",
        by=fit(declaration.by),
    )


def _plan(existing: EndpointRecord | None, declaration: Declaration) -> Plan | None:
    """The declared plan; what served before serves again at once, for nothing about it is left to find out, unless it
    shall only have a share of the requests."""
    plan = declaration.plan
    if plan and existing and not declaration.stepwise and declaration.revision in (existing.active, *existing.retained):
        return replace(IMMEDIATE, keep=plan.keep)
    return plan


def begins_again(
    existing: EndpointRecord,
    rollouts: Rollouts | None,
    before: ModelRecord | None,
    declaration: Declaration,
) -> bool:
    """Whether a declaration of a revision that was rolled back is another one: with another plan, or, where that was
    why, with a runtime or the evidence it lacked."""
    held = existing.active != existing.target == declaration.revision
    if rollouts is None or not held or not rollouts.holds(existing.target):
        return False
    lacked = rollouts.current.unloaded and before is not None and before.unplaceable is not None
    placeable = lacked and declaration.unplaceable is None
    plan = _plan(existing, declaration)
    return plan is not None and (placeable or plan != rollouts.current.plan)


def restored(endpoint: EndpointRecord, rollouts: Rollouts | None) -> EndpointDeclared:
    """How the core is told of an endpoint after a restart: it goes on where it was."""
    if rollouts is None:
        return EndpointDeclared(endpoint.name, endpoint.target, active=endpoint.active)
    newest = rollouts.current
    return EndpointDeclared(
        endpoint.name,
        endpoint.target,
        active=endpoint.active,
        plan=newest.plan if newest.target == endpoint.target else None,
        rollout=newest.id,
        by=newest.by,
        resume=newest,
    )
