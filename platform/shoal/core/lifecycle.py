"""The lives of a copy and of an endpoint as literal tables: what is not in a table cannot happen.

The documentation's diagrams are drawn from these tables (`copy_diagram`, `endpoint_diagram`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from types import MappingProxyType
from typing import Final

from shoal.core.types import CopyState


class CopyInput(Enum):
    """What can happen to a copy."""

    ASSIGN = "assigned to a pod"
    ADOPT = "reported as loaded"
    EXPEL = "reported, but not declared"
    START = "space and a loader are free"
    SUCCEED = "load succeeded"
    FAIL = "load failed"
    OVERSIZE = "larger than the pod"
    CANCEL = "not wanted any more"
    WITHDRAW = "to be evicted"
    RECALL = "asked for again"
    ACKNOWLEDGE = "gateways acknowledged"
    DRAIN = "nothing in flight"
    UNLOAD = "unload succeeded"
    SETTLE = "unloaded after a failed load"
    RETRY = "unload failed"
    FORGET = "failure expired"
    VANISH = "pod or copy gone"


class IllegalTransitionError(Exception):
    """An input that the table does not allow in this state: a defect of the core, never of its callers."""

    def __init__(self, state: Enum, given: Enum) -> None:
        super().__init__(f"{given.name} is not possible in state {state.name}")
        self.state = state
        self.given = given


_S = CopyState
_I = CopyInput

COPY_TRANSITIONS: Final = MappingProxyType(
    {
        (_S.ABSENT, _I.ASSIGN): _S.QUEUED,
        (_S.ABSENT, _I.ADOPT): _S.LOADED,
        (_S.ABSENT, _I.EXPEL): _S.UNLOADING,
        (_S.QUEUED, _I.START): _S.LOADING,
        (_S.QUEUED, _I.CANCEL): _S.ABSENT,
        (_S.QUEUED, _I.ADOPT): _S.LOADED,
        (_S.QUEUED, _I.VANISH): _S.ABSENT,
        (_S.LOADING, _I.SUCCEED): _S.LOADED,
        # As `mmesh.ModelRuntime` asks, every load that failed or was cancelled is followed by an unload; until
        # that is answered its bytes are not free.
        (_S.LOADING, _I.FAIL): _S.UNLOADING,
        (_S.LOADING, _I.OVERSIZE): _S.UNLOADING,
        (_S.LOADING, _I.CANCEL): _S.UNLOADING,
        (_S.LOADING, _I.VANISH): _S.ABSENT,
        (_S.LOADED, _I.WITHDRAW): _S.WITHDRAWING,
        (_S.LOADED, _I.VANISH): _S.ABSENT,
        (_S.WITHDRAWING, _I.RECALL): _S.LOADED,
        (_S.WITHDRAWING, _I.ACKNOWLEDGE): _S.DRAINING,
        (_S.WITHDRAWING, _I.VANISH): _S.ABSENT,
        (_S.DRAINING, _I.RECALL): _S.LOADED,
        (_S.DRAINING, _I.DRAIN): _S.UNLOADING,
        (_S.DRAINING, _I.VANISH): _S.ABSENT,
        (_S.UNLOADING, _I.UNLOAD): _S.ABSENT,
        (_S.UNLOADING, _I.SETTLE): _S.FAILED,
        (_S.UNLOADING, _I.RETRY): _S.UNLOADING,
        (_S.UNLOADING, _I.VANISH): _S.ABSENT,
        (_S.FAILED, _I.ADOPT): _S.LOADED,
        (_S.FAILED, _I.EXPEL): _S.UNLOADING,
        (_S.FAILED, _I.FORGET): _S.ABSENT,
        (_S.FAILED, _I.VANISH): _S.ABSENT,
    }
)
"""The life of one copy. `FAILED` holds no bytes: it is the memory of a failure on that pod."""

OCCUPYING: Final = frozenset({_S.LOADING, _S.LOADED, _S.WITHDRAWING, _S.DRAINING, _S.UNLOADING})
"""States in which a copy's bytes count against its pod."""
RELEASING: Final = frozenset({_S.WITHDRAWING, _S.DRAINING, _S.UNLOADING})
"""States on the way out: bytes that will be free without another eviction."""
IN_FLIGHT: Final = frozenset({_S.QUEUED, _S.LOADING})
"""States on the way in: requests wait for these instead of starting another load."""


class EndpointState(Enum):
    """How an endpoint stands."""

    SETTLED = "Settled"
    PROVING = "Proving"
    SPREADING = "Spreading"
    ROLLING = "Rolling"
    """A rollout divides requests between active and target."""
    BLOCKED = "Blocked"
    HELD = "Held"
    """A rollout was rolled back: the active revision serves, although another is declared."""
    REMOVED = "Removed"


class EndpointInput(Enum):
    """What can happen to an endpoint."""

    RETARGET = "another revision declared"
    ROLL_BACK = "active revision declared again"
    FORCE = "declared with force"
    PROVED = "target loaded once"
    LOST = "target lost all copies"
    FAIL = "target failed to load"
    RETRY = "failure expired"
    MATCH = "as many copies as the active one, or as fit"
    BEGIN = "the same, and a rollout begins"
    PROMOTE = "its rollout is over"
    ABANDON = "its rollout was rolled back"
    AGAIN = "its rollout is retried"
    REMOVE = "endpoint removed"


_E = EndpointState
_J = EndpointInput

ENDPOINT_TRANSITIONS: Final = MappingProxyType(
    {
        (_E.SETTLED, _J.RETARGET): _E.PROVING,
        (_E.SETTLED, _J.FORCE): _E.SETTLED,
        (_E.SETTLED, _J.REMOVE): _E.REMOVED,
        (_E.PROVING, _J.RETARGET): _E.PROVING,
        (_E.PROVING, _J.ROLL_BACK): _E.SETTLED,
        (_E.PROVING, _J.FORCE): _E.SETTLED,
        (_E.PROVING, _J.PROVED): _E.SPREADING,
        (_E.PROVING, _J.FAIL): _E.BLOCKED,
        (_E.PROVING, _J.REMOVE): _E.REMOVED,
        (_E.SPREADING, _J.RETARGET): _E.PROVING,
        (_E.SPREADING, _J.ROLL_BACK): _E.SETTLED,
        (_E.SPREADING, _J.FORCE): _E.SETTLED,
        (_E.SPREADING, _J.LOST): _E.PROVING,
        (_E.SPREADING, _J.MATCH): _E.SETTLED,
        (_E.SPREADING, _J.REMOVE): _E.REMOVED,
        (_E.BLOCKED, _J.RETARGET): _E.PROVING,
        (_E.BLOCKED, _J.ROLL_BACK): _E.SETTLED,
        (_E.BLOCKED, _J.FORCE): _E.SETTLED,
        (_E.BLOCKED, _J.RETRY): _E.PROVING,
        (_E.BLOCKED, _J.PROVED): _E.SPREADING,
        (_E.BLOCKED, _J.REMOVE): _E.REMOVED,
        (_E.SPREADING, _J.BEGIN): _E.ROLLING,
        (_E.ROLLING, _J.PROMOTE): _E.SPREADING,
        (_E.ROLLING, _J.RETARGET): _E.PROVING,
        (_E.ROLLING, _J.ROLL_BACK): _E.SETTLED,
        (_E.ROLLING, _J.FORCE): _E.SETTLED,
        (_E.ROLLING, _J.REMOVE): _E.REMOVED,
        (_E.PROVING, _J.ABANDON): _E.HELD,
        (_E.SPREADING, _J.ABANDON): _E.HELD,
        (_E.ROLLING, _J.ABANDON): _E.HELD,
        (_E.BLOCKED, _J.ABANDON): _E.HELD,
        (_E.HELD, _J.AGAIN): _E.PROVING,
        (_E.HELD, _J.RETARGET): _E.PROVING,
        (_E.HELD, _J.ROLL_BACK): _E.SETTLED,
        (_E.HELD, _J.FORCE): _E.SETTLED,
        (_E.HELD, _J.REMOVE): _E.REMOVED,
    }
)
"""The life of an endpoint: it follows its target only once that has been loaded (invariant 7)."""


def next_copy_state(state: CopyState, given: CopyInput) -> CopyState:
    """The state a copy is in after `given`.

    Raises:
        IllegalTransitionError: the table does not allow it.
    """
    try:
        return COPY_TRANSITIONS[state, given]
    except KeyError:
        raise IllegalTransitionError(state, given) from None


def next_endpoint_state(state: EndpointState, given: EndpointInput) -> EndpointState:
    """The state an endpoint is in after `given`.

    Raises:
        IllegalTransitionError: the table does not allow it.
    """
    try:
        return ENDPOINT_TRANSITIONS[state, given]
    except KeyError:
        raise IllegalTransitionError(state, given) from None


def copy_diagram() -> str:
    """The life of a copy as a Mermaid state diagram."""
    edges = ((a.value, b.value, i.value) for (a, i), b in COPY_TRANSITIONS.items())
    return diagram(CopyState.ABSENT.value, edges)


def endpoint_diagram() -> str:
    """The life of an endpoint as a Mermaid state diagram."""
    edges = ((a.value, b.value, i.value) for (a, i), b in ENDPOINT_TRANSITIONS.items())
    return diagram(EndpointState.SETTLED.value, edges)


def diagram(start: str, edges: Iterable[tuple[str, str, str]]) -> str:
    """A Mermaid state diagram of (state before, state after, why)."""
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {before} --> {after}: {why}" for before, after, why in edges]
    return "\n".join(lines) + "\n"
