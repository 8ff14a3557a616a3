"""What may be asked of a rollout where it stands, and what to do instead."""

from __future__ import annotations

from shoal.core.rollout.record import PAUSED, Phase, Rollout, Verb

_BEFORE_PROMOTING = frozenset({Phase.LOADING.value, Phase.WARMING_UP.value, Phase.PROGRESSING.value})
_ALLOWED: dict[Verb, frozenset[str]] = {
    Verb.PAUSE: _BEFORE_PROMOTING,
    Verb.RESUME: frozenset({PAUSED}),
    Verb.PROMOTE: _BEFORE_PROMOTING | {PAUSED},
    Verb.ABORT: _BEFORE_PROMOTING | {PAUSED, Phase.PROMOTING.value},
    Verb.RETRY: frozenset({Phase.ROLLED_BACK.value}),
}
"""What may be asked, by what `Rollout.shown` says."""


def refusal(rollout: Rollout, verb: Verb) -> str | None:
    """Why a rollout cannot do that now, and what it can; None if it can."""
    if rollout.shown in _ALLOWED[verb]:
        return None
    possible = [str(other.value) for other, standings in _ALLOWED.items() if rollout.shown in standings]
    instead = f"possible now: {', '.join(possible)}" if possible else "it is over: undo goes back, a new manifest on"
    return f"rollout {rollout.id} is {rollout.shown} and cannot {verb.value}; {instead}"
