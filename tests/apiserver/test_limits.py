"""Limits of the embedded API: each is told, none ends the server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from shoal.apiserver.errors import ApiError
from shoal.apiserver.http import refusal
from shoal.apiserver.selectors import Selector
from shoal.apiserver.state import Key, StateDraft
from shoal.apiserver.store import ObjectStore
from shoal.apiserver.watch import Hub, Interest
from support.apiserver import NAMESPACE, ApiServer

SYNCHRONOUS_FULL = 2
"""SQLite's number for it; below, a commit may be lost with the power."""
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"


def put(name: str):
    def decide(draft: StateDraft) -> None:
        draft.put(Key("/configmaps", "default", name), {"metadata": {"name": name, "namespace": "default"}})

    return decide


async def test_watches_are_limited_and_a_client_that_leaves_makes_room(tmp_path: Path):
    store = ObjectStore(tmp_path / "api.db")
    hub = Hub(store.state, store.history, max_watches=2)
    interest = Interest("/configmaps", "", Selector())
    first, _ = hub.open(interest, None)
    hub.open(interest, None)
    with pytest.raises(ApiError, match="at most 2 watches") as refused:
        hub.open(interest, None)
    answer = refusal(refused.value)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    assert json.loads(bytes(answer.body))["reason"] == "TooManyRequests"
    hub.leave(first)
    hub.leave(first)
    hub.open(interest, None)
    with pytest.raises(ApiError):
        hub.open(interest, None)


async def test_objects_are_limited_and_deleting_makes_room(tmp_path: Path):
    store = ObjectStore(tmp_path / "api.db", max_objects=2)
    await store.write(put("a"))
    await store.write(put("b"))
    with pytest.raises(ApiError, match="exceeded quota: this server holds at most 2 objects") as refused:
        await store.write(put("c"))
    assert refused.value.code == 403
    await store.write(put("b"))  # a change of what is there needs no room
    await store.write(lambda draft: draft.remove(Key("/configmaps", "default", "a")))
    await store.write(put("c"))
    assert sorted(key.name for key in store.state.objects["/configmaps"]) == ["b", "c"]


async def test_what_is_acknowledged_survives_a_power_loss(tmp_path: Path):
    store = ObjectStore(tmp_path / "api.db")
    (synchronous,) = store._connection.execute("PRAGMA synchronous").fetchone()
    assert synchronous >= SYNCHRONOUS_FULL
    store.close()


async def test_writes_that_wait_are_limited_and_those_before_are_done(tmp_path: Path):
    store = ObjectStore(tmp_path / "api.db", max_waiting=3)
    outcomes = await asyncio.gather(*(store.write(put(f"m{n}")) for n in range(5)), return_exceptions=True)
    assert outcomes[:3] == [None] * 3
    for refused in outcomes[3:]:
        assert isinstance(refused, ApiError)
        answer = refusal(refused)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert "3 writes wait for the disk already; try again" in refused.message
    await store.write(put("later"))
    assert sorted(key.name for key in store.state.objects["/configmaps"]) == ["later", "m0", "m1", "m2"]
    store.close()


def deployment(**spec: object) -> dict:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "i"}], **spec}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }


@pytest.mark.server
def test_init_containers_are_refused_and_not_skipped(server: ApiServer) -> None:
    answer = server.http.post(DEPLOYMENTS, json=deployment(initContainers=[{"name": "first", "image": "i"}]))
    assert answer.status_code == 422
    (cause,) = answer.json()["details"]["causes"]
    assert cause["field"] == "spec.template.spec.initContainers"
    assert "the container's own command" in cause["message"]


@pytest.mark.server
@pytest.mark.parametrize("query", ["timestamps=true", "sinceSeconds=60", "sinceTime=2026-01-01T00:00:00Z"])
def test_logs_by_time_are_refused_and_not_answered_without_it(server: ApiServer, query: str) -> None:
    created = server.http.post(DEPLOYMENTS, json=deployment()).json()
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": created["metadata"]["uid"]}
    pod = {
        "metadata": {"name": "x-1", "ownerReferences": [owner | {"controller": True}]},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    }
    assert server.http.post(PODS, json=pod).status_code == 201
    folder = server.state_dir / "pods" / "x-1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.log").write_text("one\ntwo\n")
    assert server.http.get(f"{PODS}/x-1/log?timestamps=false").text == "one\ntwo\n"
    answer = server.http.get(f"{PODS}/x-1/log?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["message"]
    assert "--tail" in answer.json()["message"]


@pytest.mark.server
def test_deleting_a_claim_tells_that_its_files_stay(server: ApiServer) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"
    assert server.http.post(path, json=claim).status_code == 201
    deleted = server.http.delete(f"{path}/kept")
    assert deleted.json()["metadata"]["name"] == "kept"
    assert "pvcs/NAME" in deleted.headers["warning"]
