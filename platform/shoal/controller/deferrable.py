"""Which changes of a status may wait: that a model comes and goes as requests ask for it. Pure.

While models take turns in memory, each load changes two statuses. To write them costs more than the loads, and nobody
can read that fast. What may wait is written at a slow pace, as it is by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shoal.controller.conditions import condition
from shoal.core.types import CopyState, EndpointView, ModelState, Transition

LONG_LOAD: Final = 2.0
"""Seconds after which a load is shown as under way, so that others are shown only once they are done."""
_LASTING: Final = frozenset({ModelState.LOADED, ModelState.STANDBY})
_PASSING: Final = frozenset({*_LASTING, ModelState.LOADING})
"""States that follow each other without anybody's doing."""


def may_wait(old: Mapping[str, Any], new: Mapping[str, Any], proven: str) -> bool:
    """Whether two statuses differ only in whether, and where, the model is in memory.

    Args:
        old: the status as it is.
        new: the status to write.
        proven: the revision that was shown as loaded before. Its first load is waited for, so it is told at once.
    """
    known = proven != "" and old.get("modelRevisionName") == proven
    return known and _settled(old, _LASTING) and _settled(new, _PASSING) and _rest(old) == _rest(new)


def least_wait(status: Mapping[str, Any]) -> float:
    """Seconds that a status which may wait has to wait at least: one of a load says something else in a moment."""
    return LONG_LOAD if _state(status) is ModelState.LOADING else 0.0


def passes(view: EndpointView, proven: str) -> bool:
    """Whether all there is to say of an endpoint is whether, and where, its model is in memory; see `may_wait`."""
    model = view.active_model
    known = proven != "" and view.active == view.target == proven and view.transition is Transition.UP_TO_DATE
    failed = view.failure or model.failures or any(copy.state is CopyState.FAILED for copy in model.copies)
    return known and not failed and model.state in _PASSING


def proven_by(status: Mapping[str, Any]) -> str:
    """The revision that a status shows as loaded; empty if none."""
    loaded = condition(status, "Loaded").get("status") == "True"
    return str(status.get("modelRevisionName", "")) if loaded else ""


def _state(status: Mapping[str, Any]) -> ModelState | None:
    states = (status.get("modelStatus") or {}).get("states") or {}
    return ModelState(states["activeModelState"]) if states.get("activeModelState") else None


def _settled(status: Mapping[str, Any], states: frozenset[ModelState]) -> bool:
    """Whether nothing is under way or wrong, and the model in one of these states."""
    model = status.get("modelStatus") or {}
    failed = (model.get("copies") or {}).get("failedCopies")
    up_to_date = model.get("transitionStatus") == Transition.UP_TO_DATE.value
    return up_to_date and not failed and _state(status) in states


def _rest(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without what says whether, and where, the model is in memory."""
    rest = dict(status)
    rest["conditions"] = [found for found in status.get("conditions") or () if found.get("type") != "Loaded"]
    rest["modelStatus"] = {
        key: value for key, value in (status.get("modelStatus") or {}).items() if key not in ("states", "copies")
    }
    return rest
