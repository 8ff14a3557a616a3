"""The life of a rollout as a literal table: what is not in it cannot happen."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from shoal.core.lifecycle import IllegalTransitionError, diagram
from shoal.core.rollout.record import Phase


class RolloutInput(Enum):
    """What can happen to a rollout."""

    MATCHED = "copies match"
    WARMED = "copies are warm"
    STEPPED = "all steps done"
    PROMOTE = "promoted"
    FLIP = "routes flip"
    FAIL = "a check, a load or the deadline failed, or aborted"
    SUPERSEDE = "another change declared"
    RETRY = "retried"


_P = Phase
_I = RolloutInput
_LIVE = (_P.LOADING, _P.WARMING_UP, _P.PROGRESSING, _P.PROMOTING)

ROLLOUT_TRANSITIONS: Final[Mapping[tuple[Phase, RolloutInput], Phase]] = MappingProxyType(
    {
        (_P.LOADING, _I.MATCHED): _P.WARMING_UP,
        (_P.WARMING_UP, _I.WARMED): _P.PROGRESSING,
        (_P.PROGRESSING, _I.STEPPED): _P.PROMOTING,
        **{(phase, _I.PROMOTE): _P.PROMOTING for phase in _LIVE},
        **{(phase, _I.FLIP): _P.SUCCEEDED for phase in _LIVE},
        **{(phase, _I.FAIL): _P.ROLLED_BACK for phase in _LIVE},
        **{(phase, _I.SUPERSEDE): _P.SUPERSEDED for phase in _LIVE},
        (_P.ROLLED_BACK, _I.RETRY): _P.LOADING,
    }
)
"""Being paused is no phase: a rollout that is paused stays in the phase it is in, and may end from there."""


def next_phase(phase: Phase, given: RolloutInput) -> Phase:
    """The phase a rollout is in after `given`.

    Raises:
        IllegalTransitionError: the table does not allow it.
    """
    try:
        return ROLLOUT_TRANSITIONS[phase, given]
    except KeyError:
        raise IllegalTransitionError(phase, given) from None


def rollout_diagram() -> str:
    """The life of a rollout as a Mermaid state diagram."""
    edges = ((a.value, b.value, i.value) for (a, i), b in ROLLOUT_TRANSITIONS.items())
    return diagram(Phase.LOADING.value, edges)
