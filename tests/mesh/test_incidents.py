"""What an adapter tells of losses of its server reaches the core once, and before what follows from it."""

from __future__ import annotations

import asyncio

from shoal.core.events import Event, ServerLost
from shoal.core.suspicion import Doing, Suspect, Suspicion
from shoal.core.types import Failure, FailureReason, PodId, RevisionId, RuntimeName
from shoal.mesh.api import PodEndpoint
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.incidents import Incidents
from shoal.mesh.state.records import decode_suspicion, encode_suspicion
from shoal_protos.adapter import adapter_pb2 as adapter

POD = PodEndpoint(PodId("p1"), RuntimeName("r"), "127.0.0.1", 8085, 8001)


def state(*ids: int, kind: int = adapter.State.Incident.DIED) -> object:
    incidents = [
        adapter.State.Incident(
            id=number,
            kind=kind,
            message=f"incident {number}",
            suspects=[
                adapter.State.Suspect(model_id="a", doing=adapter.State.LOADING),
                adapter.State.Suspect(model_id="b", doing=adapter.State.ANSWERING, requests=3),
            ],
        )
        for number in ids
    ]
    return adapter.State(incidents=incidents)


def told() -> tuple[Incidents, list[Event], Metrics]:
    events: list[Event] = []
    metrics = Metrics()
    return Incidents(POD, events.append, metrics), events, metrics


def test_an_incident_is_told_once_with_its_suspects_and_counted() -> None:
    incidents, events, metrics = told()
    incidents.tell(state())
    incidents.tell(state(1))
    incidents.tell(state(1))
    suspects = (Suspect(RevisionId("a"), Doing.LOADING), Suspect(RevisionId("b"), Doing.ANSWERING))
    assert events == [ServerLost(PodId("p1"), RuntimeName("r"), suspects, "incident 1")]
    assert metrics.registry.get_sample_value("shoal_model_servers_lost_total") == 1
    assert metrics.registry.get_sample_value("shoal_requests_interrupted_total") == 3


def test_incidents_of_before_the_mesh_started_are_history() -> None:
    incidents, events, _ = told()
    incidents.tell(state(1, 2))
    incidents.tell(state(1, 2, 3, kind=adapter.State.Incident.HUNG))
    assert [(event.message, event.hung) for event in events if isinstance(event, ServerLost)] == [("incident 3", True)]


async def test_a_failed_load_waits_for_the_incident_it_names() -> None:
    incidents, events, _ = told()
    incidents.tell(state())
    waiting = asyncio.create_task(incidents.told((("shoal-incident", "1"),)))
    await asyncio.sleep(0)
    assert not waiting.done()
    incidents.tell(state(1))
    await asyncio.wait_for(waiting, 5)
    assert len(events) == 1
    await incidents.told(())
    await incidents.told((("shoal-incident", "1"),))


def test_a_charge_is_stored_as_it_is() -> None:
    failure = Failure(FailureReason.SERVER_LOST, "it died", 5.0, PodId("p1"))
    for suspicion in (Suspicion(), Suspicion(2, failure, 5.0, RuntimeName("r"), quarantined=True, paroles=1)):
        assert decode_suspicion(encode_suspicion(suspicion)) == suspicion
    newer = encode_suspicion(Suspicion(1)).replace(b'{"charges"', b'{"unknown":1,"charges"')
    assert decode_suspicion(newer) == Suspicion(1)
