"""`status.rollout`, its condition and the events of a rollout, from how the mesh says it stands. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shoal.controller.times import timestamp
from shoal.core.rollout.plan import WHOLE
from shoal.core.rollout.record import Phase, Rollout
from shoal.mesh.api import RolloutHistory

PROGRESSING = "RolloutProgressing"
"""Condition, there as soon as there ever was a rollout: True while one is under way. So
`kubectl wait --for=condition=RolloutProgressing=false` returns when it ended, either way."""
REFUSED = "Refused"
"""Phase-like word for a change that must wait for the end of another rollout."""
ROLLED_BACK = "RolledBack"
_MAX_MESSAGE = 1024
_BAD = frozenset({Phase.ROLLED_BACK.value, REFUSED})


@dataclass(frozen=True, slots=True)
class Happening:
    """An event to tell."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def rollout_document(status: RolloutHistory, refused: str) -> dict[str, Any]:
    """`status.rollout`."""
    rollout = status.current
    found = {
        "id": rollout.id,
        "phase": rollout.shown,
        "strategy": rollout.plan.strategy.value,
        "revision": str(rollout.target),
        "weight": _percent(rollout.weight),
        "step": step_words(rollout),
        "message": (refused or message_of(rollout))[:_MAX_MESSAGE],
        "startedAt": timestamp(rollout.started),
    }
    return found if rollout.ended is None else found | {"endedAt": timestamp(rollout.ended)}


def step_words(rollout: Rollout) -> str:
    """Where a rollout is among its steps, such as `2/5`; empty without steps."""
    count = len(rollout.plan.steps)
    return f"{min(rollout.step + 1, count)}/{count}" if count else ""


def message_of(rollout: Rollout) -> str:
    """Why it waits or how it ended; otherwise what happened last."""
    if rollout.reason:
        return rollout.reason
    return rollout.timeline[-1].what if rollout.timeline else ""


def happenings(
    old: Mapping[str, Any], new: Mapping[str, Any], status: RolloutHistory, refused: str
) -> Iterator[Happening]:
    """What is to be told of the way from one `status.rollout` to the next."""
    before, after = (old.get("id"), old.get("phase")), (new.get("id"), new.get("phase"))
    if before[0] and before[0] != after[0]:
        ended = next((past.rollout for past in status.past if past.rollout.id == before[0]), None)
        if ended is not None and ended.phase.value != before[1]:
            yield _happening(ended)
    if before != after:
        yield _happening(status.current)
    if refused and refused[:_MAX_MESSAGE] != old.get("message"):
        yield Happening("Warning", REFUSED, refused[:_MAX_MESSAGE])


def _happening(rollout: Rollout) -> Happening:
    phase = rollout.shown
    words = f"rollout {rollout.id} to {rollout.target}: {message_of(rollout) or phase}"
    if rollout.live:
        words += f" ({_percent(rollout.weight):g}% of requests; {rollout.active} serves the others)"
    return Happening("Warning" if phase in _BAD else "Normal", phase, words[:_MAX_MESSAGE])


def _percent(per_mille: int) -> float:
    percent = per_mille * 100 / WHOLE
    return int(percent) if percent.is_integer() else percent
