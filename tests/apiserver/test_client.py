"""The official Python client against a real server: lists, watches, informers, conflicts."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.informer import SharedInformer

from support.apiserver import CONFIG_MAPS, NAMESPACE, ApiServer, config_map, isvc
from waiting import eventually

pytestmark = pytest.mark.server


@pytest.fixture
def core(server: ApiServer) -> Iterator[client.CoreV1Api]:
    api = config.new_client_from_config(str(server.kubeconfig))
    yield client.CoreV1Api(api)
    api.close()


def test_typed_and_custom_objects(core: client.CoreV1Api) -> None:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="made-"), data={"a": "b"})
    created = core.create_namespaced_config_map(NAMESPACE, body)
    assert created.metadata.name.startswith("made-")
    assert [item.data for item in core.list_namespaced_config_map(NAMESPACE).items] == [{"a": "b"}]
    custom = client.CustomObjectsApi(core.api_client)
    where = ("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")
    stored = custom.create_namespaced_custom_object(*where, isvc())
    status = {**stored, "status": {"url": "grpc://x:1"}}
    custom.replace_namespaced_custom_object_status(*where, "sklearn-mnist", status)
    with pytest.raises(ApiException) as stale:
        custom.replace_namespaced_custom_object(*where, "sklearn-mnist", stored)
    assert stale.value.status == 409
    custom.delete_namespaced_custom_object(*where, "sklearn-mnist")


def test_a_watch_resumes_where_it_ended(core: client.CoreV1Api, server: ApiServer) -> None:
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    for name in ("a", "b", "c"):
        server.http.post(CONFIG_MAPS, json=config_map(name))
    server.http.delete(f"{CONFIG_MAPS}/b")
    seen = []
    watching = watch.Watch()
    for event in watching.stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=start, timeout_seconds=10
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 2:
            break
    rest = []
    resumed = watch.Watch()
    for event in resumed.stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=watching.resource_version, timeout_seconds=10
    ):
        rest.append((event["type"], event["object"].metadata.name))
        if len(rest) == 2:
            break
    assert seen + rest == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c"), ("DELETED", "b")]


def test_a_watch_follows_objects_into_and_out_of_its_selection(core: client.CoreV1Api, server: ApiServer) -> None:
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    server.http.post(CONFIG_MAPS, json=config_map("a"))
    server.kubectl("label", "cm", "a", "team=red")
    server.kubectl("label", "cm", "a", "note=x")
    server.kubectl("label", "cm", "a", "--overwrite", "team=blue")
    seen = []
    for event in watch.Watch().stream(
        core.list_namespaced_config_map,
        NAMESPACE,
        resource_version=start,
        label_selector="team=red",
        timeout_seconds=10,
    ):
        seen.append(event["type"])
        if len(seen) == 3:
            break
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


def test_informer_survives_a_restart_of_the_server_and_an_expired_version(own_server: ApiServer) -> None:
    api = config.new_client_from_config(str(own_server.kubeconfig))
    core = client.CoreV1Api(api)
    seen: list[tuple[str, str]] = []
    informer = SharedInformer(list_func=core.list_namespaced_config_map, namespace=NAMESPACE)
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        informer.add_event_handler(kind, lambda obj, kind=kind: seen.append((kind, obj.metadata.name)))
    informer.start()
    try:
        own_server.http.post(CONFIG_MAPS, json=config_map("before"))
        eventually(lambda: ("ADDED", "before") in seen)
        port = own_server.last_port
        own_server.kill()
        own_server.start(port=port)
        own_server.http.post(CONFIG_MAPS, json=config_map("after"))
        eventually(lambda: ("ADDED", "after") in seen)
        own_server.http.delete(f"{CONFIG_MAPS}/before")
        eventually(lambda: ("DELETED", "before") in seen)
        assert seen.count(("ADDED", "after")) == 1
    finally:
        stopping = threading.Thread(target=informer.stop)
        stopping.start()
        own_server.kill()
        stopping.join(20)
        api.close()


def test_versions_too_old_and_too_new(own_server: ApiServer) -> None:
    core = client.CoreV1Api(config.new_client_from_config(str(own_server.kubeconfig)))
    start = int(core.list_namespaced_config_map(NAMESPACE).metadata.resource_version)
    own_server.stop()
    own_server.start(port=own_server.last_port, changes=5)
    for number in range(10):
        own_server.http.post(CONFIG_MAPS, json=config_map(f"m{number}"))
    with pytest.raises(ApiException) as old:
        next(watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, resource_version=str(start)))
    assert (old.value.status, "too old resource version" in str(old.value)) == (410, True)
    ahead = own_server.http.get(f"{CONFIG_MAPS}?watch=1&resourceVersion=999999")
    assert ahead.status_code == 504
    first = own_server.get(f"{CONFIG_MAPS}?limit=3")
    for number in range(10):
        own_server.http.delete(f"{CONFIG_MAPS}/m{number}")
    answer = own_server.http.get(f"{CONFIG_MAPS}?limit=3&continue={first['metadata']['continue']}")
    assert (answer.status_code, answer.json()["reason"]) == (410, "Expired")
    core.api_client.close()


def test_pages_of_a_list_are_of_one_version(server: ApiServer) -> None:
    for number in range(5):
        server.http.post(CONFIG_MAPS, json=config_map(f"m{number}"))
    first = server.get(f"{CONFIG_MAPS}?limit=2")
    assert first["metadata"]["remainingItemCount"] == 3
    server.http.delete(f"{CONFIG_MAPS}/m3")
    server.http.post(CONFIG_MAPS, json=config_map("m9"))
    second = server.get(f"{CONFIG_MAPS}?limit=10&continue={first['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in second["items"]] == ["m2", "m3", "m4"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_initial_events_end_with_a_bookmark(server: ApiServer) -> None:
    server.http.post(CONFIG_MAPS, json=config_map("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&timeoutSeconds=1"
    lines = [line for line in server.http.get(f"{CONFIG_MAPS}?{query}").text.splitlines() if line]
    assert '"type":"ADDED"' in lines[0]
    assert '"k8s.io/initial-events-end":"true"' in lines[1]
