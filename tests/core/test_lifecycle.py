"""The tables of lives: every state with every input either is in the table or is an error."""

from __future__ import annotations

import itertools

import pytest

from shoal.core.lifecycle import (
    COPY_TRANSITIONS,
    ENDPOINT_TRANSITIONS,
    IN_FLIGHT,
    OCCUPYING,
    RELEASING,
    CopyInput,
    EndpointInput,
    EndpointState,
    IllegalTransitionError,
    copy_diagram,
    endpoint_diagram,
    next_copy_state,
    next_endpoint_state,
)
from shoal.core.types import CopyState


@pytest.mark.parametrize(("state", "given"), list(itertools.product(CopyState, CopyInput)))
def test_copy_state_with_every_input(state: CopyState, given: CopyInput) -> None:
    if (state, given) in COPY_TRANSITIONS:
        assert next_copy_state(state, given) is COPY_TRANSITIONS[state, given]
    else:
        with pytest.raises(IllegalTransitionError, match=f"{given.name} is not possible in state {state.name}"):
            next_copy_state(state, given)


@pytest.mark.parametrize(("state", "given"), list(itertools.product(EndpointState, EndpointInput)))
def test_endpoint_state_with_every_input(state: EndpointState, given: EndpointInput) -> None:
    if (state, given) in ENDPOINT_TRANSITIONS:
        assert next_endpoint_state(state, given) is ENDPOINT_TRANSITIONS[state, given]
    else:
        with pytest.raises(IllegalTransitionError):
            next_endpoint_state(state, given)


def test_every_copy_can_vanish_and_every_state_can_be_left() -> None:
    for state in CopyState:
        if state is not CopyState.ABSENT:
            assert next_copy_state(state, CopyInput.VANISH) is CopyState.ABSENT


def test_every_state_can_be_reached() -> None:
    assert set(COPY_TRANSITIONS.values()) == set(CopyState)
    assert set(ENDPOINT_TRANSITIONS.values()) == set(EndpointState)


def test_every_input_is_used() -> None:
    assert {given for _, given in COPY_TRANSITIONS} == set(CopyInput)
    assert {given for _, given in ENDPOINT_TRANSITIONS} == set(EndpointInput)


def test_unload_is_only_reached_through_draining_once_a_copy_was_routed() -> None:
    """Invariant 1, in the table itself: no way leads from LOADED to UNLOADING without the two waits between."""
    before = {state for (state, _), after in COPY_TRANSITIONS.items() if after is CopyState.UNLOADING}
    assert CopyState.LOADED not in before
    assert CopyState.WITHDRAWING not in before


def test_only_a_proved_or_forced_target_settles() -> None:
    """Invariant 7, in the table itself."""
    into = {given for (_, given), after in ENDPOINT_TRANSITIONS.items() if after is EndpointState.SETTLED}
    assert into == {EndpointInput.MATCH, EndpointInput.FORCE, EndpointInput.ROLL_BACK}
    assert {s for s, g in ENDPOINT_TRANSITIONS if g is EndpointInput.MATCH} == {EndpointState.SPREADING}


def test_classes_of_states_do_not_overlap() -> None:
    assert OCCUPYING > RELEASING
    assert {CopyState.LOADING} == IN_FLIGHT & OCCUPYING


def test_diagrams_show_every_transition() -> None:
    assert copy_diagram().count("-->") == len(COPY_TRANSITIONS) + 1
    assert endpoint_diagram().count("-->") == len(ENDPOINT_TRANSITIONS) + 1
    assert copy_diagram().startswith("stateDiagram-v2\n    [*] --> Absent\n")
    assert "    Loaded --> Withdrawing: to be evicted\n" in copy_diagram()
