import copy

from shoal.controller.discovery import PodDiscovery, endpoint_of
from support.controller import RecordingMesh

POD = {
    "metadata": {
        "name": "p1",
        "labels": {"modelmesh-service": "modelmesh-serving"},
        "annotations": {
            "shoal.dev/runtime": "mlserver-1.x",
            "shoal.dev/management-port": "8085",
            "shoal.dev/grpc-port": "8001",
            "shoal.dev/http-port": "8002",
        },
    },
    "status": {"phase": "Running", "podIP": "127.70.1.10"},
}


def _pod(**status):
    pod = copy.deepcopy(POD)
    pod["status"] |= status
    return pod


async def test_a_pod_is_found_once_it_has_an_address_and_told_once():
    mesh = RecordingMesh()
    discovery = PodDiscovery(mesh)
    discovery.changed("p1", _pod(podIP=""))
    discovery.changed("p1", _pod())
    discovery.changed("p1", _pod(conditions=[]))
    assert mesh.calls == ["found p1"]
    endpoint = mesh.pods["p1"]
    assert (endpoint.host, endpoint.management_port, endpoint.grpc_port, endpoint.http_port) == (
        "127.70.1.10",
        8085,
        8001,
        8002,
    )


async def test_a_pod_that_stops_is_emptied_and_then_gone():
    mesh = RecordingMesh()
    discovery = PodDiscovery(mesh)
    stopping = _pod()
    stopping["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    discovery.changed("p1", stopping)
    discovery.changed("p1", stopping)
    discovery.changed("p1", None)
    discovery.changed("p1", None)
    assert mesh.calls == ["found p1", "stopping p1", "gone p1"]


async def test_a_pod_with_a_new_address_is_found_anew_and_one_that_ended_is_gone():
    mesh = RecordingMesh()
    discovery = PodDiscovery(mesh)
    discovery.changed("p1", _pod())
    discovery.changed("p1", _pod(podIP="127.70.1.11"))
    discovery.changed("p1", _pod(phase="Failed"))
    assert mesh.calls == ["found p1", "found p1", "gone p1"]


def test_other_pods_and_wrong_marks_are_not_endpoints():
    unmarked, wrong, no_http = copy.deepcopy(POD), copy.deepcopy(POD), copy.deepcopy(POD)
    del unmarked["metadata"]["annotations"]["shoal.dev/runtime"]
    wrong["metadata"]["annotations"]["shoal.dev/grpc-port"] = "x"
    del no_http["metadata"]["annotations"]["shoal.dev/http-port"]
    assert endpoint_of(unmarked) is None
    assert endpoint_of(wrong) is None
    assert endpoint_of(no_http).http_port is None
