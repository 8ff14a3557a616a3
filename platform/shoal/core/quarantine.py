"""Losses of model servers: who is charged with them, how the suspects come back, and who is not loaded any more.

In the order in which things happen: a server is lost (`lost`), its suspects are held until it is known how it ended
(`exited`, or nobody said), then they are charged or acquitted. Suspects come back after everybody else, one at a time,
each on one pod; where nothing happens for a while they are cleared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shoal.core.actions import PersistSuspicion, RejectCode
from shoal.core.copies import Copy, Model
from shoal.core.events import ServerExited, ServerLost, SuspicionRestored
from shoal.core.evicting import cancel, discard
from shoal.core.lifecycle import IN_FLIGHT
from shoal.core.state import State
from shoal.core.suspicion import (
    Cause,
    Incident,
    Suspicion,
    charge_message,
    convicted,
    quarantine_message,
)
from shoal.core.timers import Due, Reminder
from shoal.core.types import CopyState, Failure, FailureReason, PodId, RevisionId, RuntimeName

_LIVE = frozenset({*IN_FLIGHT, CopyState.LOADED})


# --- what happens ----------------------------------------------------------------------------------------------------


def lost(state: State, event: ServerLost) -> None:
    """A model server is gone, or has to be given up: hold what it was busy with until its cause is known."""
    before = state.suspicions.incidents.get(event.pod)
    if before is not None and before.cause is None:  # there will be no word of it any more
        _decide(state, before, Cause.CRASHED)
    known = {suspect.revision: suspect for suspect in event.suspects if suspect.revision in state.models}
    suspects = tuple(known.values())
    incident = Incident(event.pod, event.runtime, state.now, suspects, event.message)
    _forget_gone_pods(state)
    state.suspicions.incidents[event.pod] = incident
    for suspect in suspects:
        state.suspicions.held[suspect.revision] = incident
        for copy in state.in_flight(suspect.revision):
            cancel(state, copy)
    told = state.suspicions.exits.pop(event.pod, None)
    if event.hung:
        _decide(state, incident, Cause.HUNG)
    elif told is not None and told[0] >= state.now - state.settings.cause_timeout:
        incident.told, incident.words = True, told[2]
        _decide(state, incident, told[1])
    else:
        due = state.now + state.settings.cause_timeout
        state.timers.set(due, Reminder(Due.CAUSE, pod=event.pod, mark=incident.at))


def exited(state: State, event: ServerExited) -> None:
    """Whoever runs the containers says how a pod's model server ended.

    It is said once of each loss, before or after the adapter says what the server was busy with. What is said after the
    suspects were charged counts, too: a charge is struck if the server was killed from outside.
    """
    settings = state.settings
    incident = state.suspicions.incidents.get(event.pod)
    hung = incident is not None and incident.cause is Cause.HUNG
    # A server that hangs is ended later, at the latest when its pod was drained.
    until = 2 * (settings.pod_drain_timeout if hung else settings.cause_timeout)
    if incident is None or incident.told or state.now - incident.at > until:
        _forget_gone_pods(state)
        state.suspicions.exits[event.pod] = (state.now, event.cause, event.words)
        return
    incident.told = True
    if hung:
        return  # it was ended because it hung: how says nothing of the models
    incident.words = event.words
    if incident.cause is None:
        _decide(state, incident, event.cause)
    elif event.cause is Cause.KILLED:
        _acquit(state, incident)
    else:
        _reword(state, incident, incident.cause)


def nobody_said(state: State, pod: PodId, at: float) -> None:
    """It did not become known in time how a server ended: then it counts as a crash."""
    incident = state.suspicions.incidents.get(pod)
    if incident is not None and incident.at == at and incident.cause is None:
        _decide(state, incident, Cause.CRASHED)


def restored(state: State, event: SuspicionRestored) -> None:
    """What a model was charged with before a restart of the mesh."""
    model = state.models.get(event.revision)
    if model is None or event.suspicion.runtime != model.spec.runtime:
        return
    state.suspicions.of[event.revision] = event.suspicion
    _remind(state, event.revision, event.suspicion)
    state.look_at(event.revision)


def release(state: State, revision: RevisionId) -> None:
    """Somebody has reason to think that a model does no harm any more."""
    if _drop(state, revision):
        state.decide("release", revision, "somebody released it")
        state.look_at(revision)


def forget(state: State, revision: RevisionId) -> None:
    """A model is no more, or is another: so its charge means nothing."""
    state.suspicions.held.pop(revision, None)
    _drop(state, revision)


def time_served(state: State, revision: RevisionId, since: float) -> None:
    """A quarantine is over for now, or a charge is too old to count."""
    suspicion = state.suspicions.of.get(revision)
    if suspicion is None or suspicion.since != since:
        return
    if suspicion.quarantined:
        paroled = replace(suspicion, quarantined=False, charges=1, paroles=suspicion.paroles + 1, since=state.now)
        _set(state, revision, paroled)
        state.decide("parole", revision, "its quarantine is over: it may be tried again, on one pod")
    else:
        forget(state, revision)
    state.look_at(revision)


def loaded(state: State, copy: Copy) -> None:
    """A suspect is loaded: if nothing happens for a while, it is loaded like any other again."""
    if state.suspicions.restricted(copy.revision):
        due = state.now + state.settings.suspect_proof
        state.timers.set(due, Reminder(Due.PROOF, copy.revision, copy.pod, mark=copy.since))


def proved(state: State, copy: Copy) -> None:
    """A suspect was loaded for so long, and nothing happened."""
    suspicion = state.suspicions.of.get(copy.revision)
    if suspicion is not None and suspicion.restricted and copy.state is CopyState.LOADED:
        _set(state, copy.revision, replace(suspicion, cleared=True))
        state.decide("clear", copy.revision, "it was loaded for a while, and no server was lost", copy.pod)
        look_at_suspects(state, suspicion.runtime)


# --- what follows ----------------------------------------------------------------------------------------------------


def why_held(state: State, model: Model) -> str | None:
    """Why a suspect must wait for its turn; None if it is none, or may be loaded now."""
    if model.id in state.suspicions.held:
        return "a model server was lost while it was busy with it, and it is not known yet how"
    if not state.suspicions.restricted(model.id):
        return None
    if any(copy.state in _LIVE for copy in state.copies(model.id).values()):
        return "it is suspected of having brought a model server down: one copy is the most"
    suspicion = state.suspicions.of[model.id]
    for other in _suspects(state, model.spec.runtime):
        if other != model.id and state.in_flight(other):
            return f"{other} is loaded first, suspects are loaded one at a time"
    if state.now < suspicion.since + state.settings.suspect_patience and _others_come_back(state, model.spec.runtime):
        return "models that are not suspected of having brought a model server down come first"
    return None


def apart(state: State, model: Model) -> frozenset[PodId]:
    """Pods that have a suspect already, where there are others: two together could not be told from each other."""
    if not state.suspicions.restricted(model.id):
        return frozenset()
    pods = frozenset(pod.spec.id for pod in state.staying_pods(model.spec.runtime))
    taken = frozenset(
        copy.pod
        for other in _suspects(state, model.spec.runtime)
        if other != model.id
        for copy in state.copies(other).values()
        if copy.state in _LIVE
    )
    return taken if pods - taken else frozenset()


def why_not_rolled_out(state: State, revision: RevisionId, started: float) -> str | None:
    """Why a rollout that `started` then may not go on with a revision: it is charged with something since."""
    suspicion = state.suspicions.of.get(revision)
    if suspicion is None or suspicion.failure is None:
        return None
    return suspicion.failure.message if suspicion.quarantined or suspicion.since >= started else None


def reject_lost(state: State, revision: RevisionId) -> None:
    """Do not let requests go to another server that may have brought one down: they were tried, and just then their
    model was charged."""
    suspicion = state.suspicions.of.get(revision)
    if suspicion is None or suspicion.failure is None:
        return
    if state.now - suspicion.since >= state.settings.cause_timeout:
        return
    message = f"{suspicion.failure.message}. The request was under way there and is not tried on another server"
    for waiter in state.waiting.of(revision):
        if waiter.tried:
            state.reject(waiter.ticket, RejectCode.LOST, message)


def look_at_suspects(state: State, runtime: RuntimeName | None) -> None:
    """It may be the turn of another suspect."""
    for revision in _suspects(state, runtime):
        state.dirty_models[revision] = None


def _suspects(state: State, runtime: RuntimeName | None) -> Iterator[RevisionId]:
    for revision, suspicion in state.suspicions.of.items():
        if suspicion.restricted and not suspicion.quarantined and suspicion.runtime == runtime:
            yield revision


def _others_come_back(state: State, runtime: RuntimeName | None) -> bool:
    """Whether models that are no suspects are still being loaded again."""
    if runtime is None:
        return False
    suspicions = state.suspicions
    if any(not suspicions.restricted(wish) and wish not in suspicions.held for wish in state.preload.get(runtime, ())):
        return True
    return any(
        copy.state in IN_FLIGHT and not suspicions.restricted(copy.revision)
        for pod in state.staying_pods(runtime)
        for copy in pod.copies.values()
    )


# --- deciding --------------------------------------------------------------------------------------------------------


def _decide(state: State, incident: Incident, cause: Cause) -> None:
    incident.cause = cause
    charged: list[tuple[RevisionId, Suspicion]] = []
    for suspect in incident.suspects:
        if state.suspicions.held.get(suspect.revision) is incident:
            del state.suspicions.held[suspect.revision]
        if suspect.revision not in state.models:
            continue
        state.look_at(suspect.revision)
        if cause is Cause.KILLED:
            continue
        message = charge_message(incident, cause, suspect)
        before = state.suspicions.of.get(suspect.revision) or Suspicion()
        failure = Failure(FailureReason.SERVER_LOST, message, state.now, incident.pod)
        after = replace(
            before,
            charges=before.charges + 1,
            failure=failure,
            since=state.now,
            runtime=incident.runtime,
            cleared=False,
        )
        charged.append((suspect.revision, after))
        state.decide("charge", suspect.revision, message, incident.pod)
    guilty = convicted(charged, state.settings.deaths_before_quarantine)
    for revision, suspicion in charged:
        verdict = replace(suspicion, quarantined=revision in guilty)
        incident.charged[revision] = (state.suspicions.of.get(revision), verdict)
        _set(state, revision, verdict)
        _unwish(state, revision)
        reject_lost(state, revision)
        if revision in guilty:
            _quarantine(state, revision)


def _quarantine(state: State, revision: RevisionId) -> None:
    suspicion = state.suspicions.of[revision]
    message = quarantine_message(revision, suspicion)
    state.decide("quarantine", revision, message)
    for copy in list(state.copies(revision).values()):
        discard(state, copy, "it is quarantined")
    state.unmet.discard(revision)
    state.reject_all(revision, RejectCode.INTERNAL, message)


def _unwish(state: State, revision: RevisionId) -> None:
    for wishes in state.preload.values():
        wishes.pop(revision, None)


def _acquit(state: State, incident: Incident) -> None:
    """It turns out that the server was killed from outside: strikes the charges, unless others came since."""
    for revision, (before, charged) in incident.charged.items():
        if state.suspicions.of.get(revision) == charged:
            state.decide("acquit", revision, "the server was killed from outside: no model is to blame", incident.pod)
            if before is None:
                _drop(state, revision)
            else:
                _set(state, revision, before)
            state.look_at(revision)
    look_at_suspects(state, incident.runtime)


def _reword(state: State, incident: Incident, cause: Cause) -> None:
    """The server's last words became known after its suspects were charged."""
    for suspect in incident.suspects:
        suspicion = state.suspicions.of.get(suspect.revision)
        if suspicion is not None and suspicion.failure is not None and suspicion.failure.pod == incident.pod:
            failure = replace(suspicion.failure, message=charge_message(incident, cause, suspect))
            _set(state, suspect.revision, replace(suspicion, failure=failure))
            state.look_at(suspect.revision)


def _forget_gone_pods(state: State) -> None:
    """Pods come and go, each with a name of its own: what is settled of those that are gone is not kept."""
    records, old = state.suspicions, state.now - 2 * state.settings.cause_timeout
    for pod, incident in list(records.incidents.items()):
        if pod not in state.pods and incident.cause is not None and incident.at < old:
            del records.incidents[pod]
    for pod, (at, _, _) in list(records.exits.items()):
        if pod not in state.pods and at < old:
            del records.exits[pod]


def _drop(state: State, revision: RevisionId) -> bool:
    """Strike a charge. Whether there was one."""
    if state.suspicions.of.pop(revision, None) is None:
        return False
    state.out.commands.append(PersistSuspicion(revision, None))
    return True


def _set(state: State, revision: RevisionId, suspicion: Suspicion) -> None:
    before = state.suspicions.of.get(revision)
    state.suspicions.of[revision] = suspicion
    state.out.commands.append(PersistSuspicion(revision, suspicion))
    if before is None or (before.since, before.quarantined) != (suspicion.since, suspicion.quarantined):
        _remind(state, revision, suspicion)


def _remind(state: State, revision: RevisionId, suspicion: Suspicion) -> None:
    settings = state.settings
    if suspicion.quarantined:
        after = min(settings.quarantine * 2**suspicion.paroles, settings.quarantine_limit)
    else:
        after = settings.charge_expiry
        state.timers.set(suspicion.since + settings.suspect_patience, Reminder(Due.SUSPECT, revision))
    state.timers.set(suspicion.since + after, Reminder(Due.SENTENCE, revision, mark=suspicion.since))
