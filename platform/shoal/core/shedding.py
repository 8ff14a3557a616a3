"""Refusing requests early: those whose load would be done after they have given up."""

from __future__ import annotations

from shoal.core.actions import RejectCode
from shoal.core.copies import Copy, Model, Urgency
from shoal.core.state import State
from shoal.core.types import CopyState

RETRY_LEAST = 1.0
"""Seconds after which a refused request may be tried again, at the earliest."""
RETRY_MOST = 60.0
"""... and at the latest: an estimate further ahead is worth little."""


def too_late(wait: float, ahead: int, patience: float) -> bool:
    """Whether a request is refused at once.

    Args:
        wait: seconds until its model is loaded, as far as is known.
        ahead: queued loads that go before. Without any it is never refused: then what is known is put to the test.
        patience: seconds until its deadline.
    """
    return ahead > 0 and wait > patience


def shed(state: State, model: Model) -> Copy | None:
    """Refuse those of the requests that just came which would wait in vain.

    Returns the load that was queued for them alone, if nobody is left who waits for it.
    """
    came = state.waiting.take_arrived(model.id)
    copy = next((copy for copy in state.in_flight(model.id) if _is_waited_for(copy)), None)
    if copy is None or not came:
        return None
    pod = state.pods[copy.pod]
    ahead = pod.ahead_of(copy)
    wait = pod.pace.wait(ahead, pod.spec.load_concurrency, state.now)
    for waiter in came:
        patience = waiter.until - state.now
        if too_late(wait, ahead, patience):
            retry = min(RETRY_MOST, max(RETRY_LEAST, wait - patience))
            message = (
                f"{waiter.key.name} would be loaded in about {wait:.1f} s, as {ahead} other loads go first, but the "
                f"request waits {max(0.0, patience):.1f} s at most; try again in {retry:.0f} s, or add pods"
            )
            state.reject(waiter.ticket, RejectCode.RESOURCE_EXHAUSTED, message, retry_after=retry)
            state.decide("refuse", model.id, message, copy.pod)
    return copy if copy.since == state.now and not state.waiting.count(model.id) else None


def _is_waited_for(copy: Copy) -> bool:
    return copy.state is CopyState.QUEUED and copy.urgency is Urgency.WAITING
