"""How rollouts are kept: the newest one of each endpoint as it stands, and those that ended before it.

Two records an endpoint, for the newest one is written whenever it moves and the others only when another begins. Both
stay far below the registry's limit: texts are cut, and the oldest ended rollouts go first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from shoal.core.rollout.plan import Plan
from shoal.core.rollout.record import Phase, Rollout
from shoal.core.types import EndpointName, RevisionId
from shoal.mesh.api import EndedRollout
from shoal.mesh.state.rollout_codec import from_document, plan_document, to_document
from shoal.registry.protocol import MAX_VALUE_BYTES, Delete, Put

CURRENT: Final = "rollouts/"
PAST: Final = "past-rollouts/"
MAX_PAST: Final = 20
"""Ended rollouts that are remembered of each endpoint."""
MAX_PLAN_BYTES: Final = 64 * 1024
"""Far more than anyone writes by hand; hundreds of checks."""
MAX_PREDICTOR_BYTES: Final = 64 * 1024
"""A predictor larger than this is not remembered, so that nobody can go back to it by its history."""
MAX_TEXT: Final = 500
"""Characters of a reason, a name of who did it, or a line of a timeline."""
MAX_MESSAGE: Final = 200
"""Characters of what a check has to say."""


def plan_bytes(plan: Plan) -> int:
    """How large a plan is when it is written down."""
    return len(_encode(plan_document(plan)))


def fit(text: str, limit: int = MAX_TEXT) -> str:
    """A text as far as it is kept."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The rollouts of one endpoint."""

    current: Rollout
    """The newest one."""
    predictor: str = ""
    """Of its target."""
    number: int = 1
    """Of the newest one: counts all there ever were."""
    past: tuple[EndedRollout, ...] = ()
    """Those before, newest first."""

    def after(self, rollout: Rollout, predictor: str) -> Rollouts:
        """The same once `rollout` moved on, or began; `predictor` is its target's, as far as it is known."""
        if rollout.id == self.current.id:
            return replace(self, current=rollout, predictor=predictor or self.predictor)
        past = (EndedRollout(self.current, self.predictor), *self.past)[:MAX_PAST]
        return Rollouts(rollout, predictor, self.number + 1, past)

    def holds(self, target: RevisionId) -> bool:
        """Whether this revision was rolled back and nothing was declared since."""
        return self.current.phase is Phase.ROLLED_BACK and self.current.target == target

    def puts(self, before: Rollouts | None) -> list[Put]:
        """What is to be written where `before` was written last."""
        changed = [Put(CURRENT + self.current.endpoint, self._encode_current())]
        if self.past and (before is None or before.past != self.past):
            changed.append(Put(PAST + self.current.endpoint, self._encode_past()))
        return changed

    def _encode_current(self) -> bytes:
        return _encode({"number": self.number, **_document(self.current, self.predictor)})

    def _encode_past(self) -> bytes:
        kept: list[bytes] = []
        room = MAX_VALUE_BYTES - 100
        for entry in self.past:
            document = _encode(_document(entry.rollout, entry.predictor))
            room -= len(document) + 1
            if room < 0:
                break
            kept.append(document)
        return b'{"past":[' + b",".join(kept) + b"]}"


def deletes(name: EndpointName) -> list[Delete]:
    """What is to be deleted with an endpoint."""
    return [Delete(CURRENT + name), Delete(PAST + name)]


def decode_current(value: bytes) -> Rollouts:
    """Read the newest rollout of an endpoint."""
    document = json.loads(value)
    return Rollouts(from_document(document["rollout"]), document.get("predictor", ""), document.get("number", 1))


def decode_past(value: bytes) -> tuple[EndedRollout, ...]:
    """Read the rollouts before."""
    return tuple(
        EndedRollout(from_document(entry["rollout"]), entry.get("predictor", "")) for entry in json.loads(value)["past"]
    )


def _document(rollout: Rollout, predictor: str) -> dict[str, Any]:
    return {
        "rollout": to_document(_cut(rollout)),
        "predictor": predictor if len(predictor.encode()) <= MAX_PREDICTOR_BYTES else "",
    }


def _cut(rollout: Rollout) -> Rollout:
    return replace(
        rollout,
        by=fit(rollout.by),
        reason=fit(rollout.reason),
        timeline=tuple(replace(entry, what=fit(entry.what)) for entry in rollout.timeline),
        checks=tuple(replace(check, message=fit(check.message, MAX_MESSAGE)) for check in rollout.checks),
    )


def _encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
