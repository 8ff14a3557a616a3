"""What is remembered of models that were busy in a model server when it died or hung: charges, and quarantine.

A charge is no proof: of several models that were busy at once at most one is to blame. So the first charge only makes
a model suspect: it is loaded again after all others, alone, and on one pod. Who is charged again is quarantined.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from shoal.core.types import Failure, FailureReason, PodId, RevisionId, RuntimeName


class Doing(Enum):
    """What a model server did for a model when it was lost."""

    LOADING = "loading"
    ANSWERING = "answering requests for"


class Cause(Enum):
    """How a model server ended."""

    CRASHED = "crashed"
    """It ended by itself: an exit, a signal of its own making, or it was killed for taking too much memory."""
    HUNG = "hung"
    """It had to be given up, because a load or a request never ended."""
    KILLED = "killed"
    """Somebody ended it from outside: no model is to blame."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A model that a server was busy with."""

    revision: RevisionId
    doing: Doing


@dataclass(slots=True)
class Incident:
    """One loss of a model server."""

    pod: PodId
    runtime: RuntimeName
    at: float
    suspects: tuple[Suspect, ...]
    message: str
    """What the adapter tells of it."""
    words: str = ""
    """What the kubelet tells: exit code and last words. It knows better."""
    cause: Cause | None = None
    """None until it is known: meanwhile the suspects are neither loaded nor charged."""
    told: bool = False
    """Whether the kubelet has told of it. What it tells after that is of another loss."""
    charged: dict[RevisionId, tuple[Suspicion | None, Suspicion]] = field(default_factory=dict)
    """What each suspect was charged with before it and by it, so that the charge can be struck again."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What one model is charged with. Durable: a restart of the mesh does not clear a model."""

    charges: int = 0
    failure: Failure | None = None
    """The last charge, as it is told to people."""
    since: float = 0.0
    """When it was last charged."""
    runtime: RuntimeName | None = None
    """Whose servers it was charged with; on another runtime it starts anew."""
    quarantined: bool = False
    paroles: int = 0
    """How often it was let out of quarantine by the time it had spent there."""
    cleared: bool = False
    """It was loaded for a while since, and nothing happened: it is loaded like any other, but the charge stays."""

    @property
    def restricted(self) -> bool:
        """Whether it is loaded alone and once only, if at all."""
        return self.charges > 0 and not self.cleared


@dataclass(slots=True)
class Suspicions:
    """All charges, and the incidents that are not decided yet."""

    of: dict[RevisionId, Suspicion] = field(default_factory=dict)
    held: dict[RevisionId, Incident] = field(default_factory=dict)
    """Suspects of incidents whose cause is not known yet."""
    incidents: dict[PodId, Incident] = field(default_factory=dict)
    """The newest incident of each pod."""
    exits: dict[PodId, tuple[float, Cause, str]] = field(default_factory=dict)
    """How a pod's server ended, where that was told before what it was busy with."""

    def quarantined(self, revision: RevisionId) -> Suspicion | None:
        """The charge of a quarantined model; None if it is not."""
        found = self.of.get(revision)
        return found if found is not None and found.quarantined else None

    def restricted(self, revision: RevisionId) -> bool:
        """Whether a model is loaded alone and once only."""
        found = self.of.get(revision)
        return found is not None and found.restricted


def convicted(charged: Iterable[tuple[RevisionId, Suspicion]], deaths: int) -> frozenset[RevisionId]:
    """Which of the models charged with one incident are to be quarantined.

    After so many `deaths` it is the one that was charged most often. Where several were, each of them may have been
    there by chance: one more decides, and if not even that does, all of them are.
    """
    all_of_them = list(charged)
    most = max((suspicion.charges for _, suspicion in all_of_them), default=0)
    first = [revision for revision, suspicion in all_of_them if suspicion.charges == most]
    return frozenset(first) if most > deaths or (most == deaths and len(first) == 1) else frozenset()


def quarantine_message(revision: RevisionId, suspicion: Suspicion) -> str:
    """Why a model is not loaded, and what to do."""
    last = suspicion.failure.message if suspicion.failure is not None else ""
    return (
        f"{revision} is quarantined: model servers were lost {suspicion.charges} times while they were busy with it. "
        f"{last}. It is not loaded until it changes or is released (shoal release)"
    )


def charge_message(incident: Incident, cause: Cause, suspect: Suspect) -> str:
    """One charge in words."""
    others = len(incident.suspects) - 1
    beside = f" (and {others} other model{'s' if others > 1 else ''})" if others else ""
    words = incident.words or incident.message
    said = f": {words}" if words else ""
    return (
        f"the model server of pod {incident.pod} {cause.value} while it was {suspect.doing.value} {suspect.revision}"
        f"{beside}{said}"
    )


def quarantine_failure(revision: RevisionId, suspicion: Suspicion) -> Failure:
    """The failure that status shows of a quarantined model."""
    pod = suspicion.failure.pod if suspicion.failure is not None else None
    return Failure(FailureReason.QUARANTINED, quarantine_message(revision, suspicion), suspicion.since, pod)
