"""What may be asked of a rollout where it stands, and what to do instead."""

from __future__ import annotations

from shoal.core.rollout.record import Phase, Rollout, Verb

_ALLOWED: dict[Verb, frozenset[Phase]] = {
    Verb.PAUSE: frozenset({Phase.LOADING, Phase.WARMING_UP, Phase.PROGRESSING}),
    Verb.RESUME: frozenset({Phase.PAUSED}),
    Verb.PROMOTE: frozenset({Phase.LOADING, Phase.WARMING_UP, Phase.PROGRESSING, Phase.PAUSED}),
    Verb.ABORT: frozenset({Phase.LOADING, Phase.WARMING_UP, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING}),
    Verb.RETRY: frozenset({Phase.ROLLED_BACK}),
}


def refusal(rollout: Rollout, verb: Verb) -> str | None:
    """Why a rollout cannot do that now, and what it can; None if it can."""
    if rollout.phase in _ALLOWED[verb]:
        return None
    possible = [str(other.value) for other, phases in _ALLOWED.items() if rollout.phase in phases]
    instead = f"possible now: {', '.join(possible)}" if possible else "it is over: undo goes back, a new manifest on"
    return f"rollout {rollout.id} is {rollout.phase.value} and cannot {verb.value}; {instead}"
