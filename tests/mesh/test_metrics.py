"""How metrics add up: what gateways counted, what the mesh did itself, and what is forgotten with its pod."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import replace

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shoal.apiserver.tls import ensure
from shoal.core.types import PodId, PodSpec, PodView, RevisionId, RouteKey, RuntimeName
from shoal.gateway.counting import TIME_MS
from shoal.gateway.protocols import Counted, Quantity
from shoal.mesh.api import PodEndpoint
from shoal.mesh.metrics import FORGET_SECONDS, Metrics
from shoal.mesh.serve import process
from shoal.mesh.serve.settings import TlsFiles
from shoal_protos.mmesh import model_mesh_pb2 as pb
from support.mesh import model_info
from waiting import until

POD = PodEndpoint(PodId("pod-1"), RuntimeName("mlserver"), "127.0.0.1", 1, 2)
VIEW = PodView(PodSpec(POD.id, POD.runtime, 1000), 0, 0, 0, 0, None)
AT = {"pod": "pod-1", "runtime": "mlserver"}
KEY = RouteKey("digits")


def samples(metrics: Metrics, name: str) -> list[tuple[dict[str, str], float]]:
    """What is exposed under a sample's name."""
    text = generate_latest(metrics.registry).decode()
    families = text_string_to_metric_families(text)
    return [(s.labels, s.value) for family in families for s in family.samples if s.name == name]


def report(milliseconds: float, count: int, **labels: str) -> tuple[Counted, ...]:
    """So many requests that took so long each."""
    cumulative = tuple(count if milliseconds <= bound else 0 for bound in TIME_MS)
    given = {
        "method": "ModelInfer",
        "code": "OK",
        "runtime": "mlserver",
        "pod": "pod-1",
        "revision": "",
        "endpoint": "",
    }
    return (
        Counted(
            Quantity.REQUEST_TIME, **given | labels, cumulative=cumulative, count=count, total=count * milliseconds
        ),
    )


def test_reports_of_gateways_add_up():
    metrics = Metrics()
    for milliseconds, count in ((3.0, 2), (7.0, 5), (1e6, 1)):
        metrics.counted(report(milliseconds, count))
    labels = AT | {"method": "ModelInfer", "code": "OK"}
    assert samples(metrics, "modelmesh_api_request_milliseconds_count") == [(labels, 8)]
    assert samples(metrics, "modelmesh_api_request_milliseconds_sum") == [(labels, 1_000_041)]
    buckets = {s["le"]: v for s, v in samples(metrics, "modelmesh_api_request_milliseconds_bucket")}
    assert (buckets["2.0"], buckets["5.0"], buckets["10.0"], buckets["300000.0"], buckets["+Inf"]) == (0, 2, 7, 7, 8)


def test_what_the_mesh_asks_model_servers_is_added_to_what_gateways_ask():
    metrics = Metrics()
    [one] = report(3.0, 2)
    metrics.counted((Counted(Quantity.MODEL_TIME, *(getattr(one, name) for name in list(Counted.__slots__)[1:])),))
    with metrics.invocation("/inference.GRPCInferenceService/ModelInfer", POD, "r", KEY):
        pass
    assert samples(metrics, "modelmesh_invoke_model_milliseconds_count") == [
        (AT | {"method": "ModelInfer", "code": "OK"}, 3)
    ]


def test_clients_cannot_make_labels():
    metrics = Metrics()
    for number in range(100):
        with metrics.request(f"/a.Service/Method{number}"):
            pass
        with metrics.invocation(f"/a.Service/Method{number}", POD, f"r{number}", RouteKey(f"e{number}")):
            pass
        metrics.cache_miss(POD, f"r{number}", RouteKey(f"e{number}"), 1.0)
    for name in ("shoal_activator_request", "modelmesh_invoke_model", "modelmesh_cache_miss"):
        assert len(samples(metrics, f"{name}_milliseconds_count")) == 1


def test_an_aborted_call_of_a_model_server_has_its_status():
    metrics = Metrics()
    with pytest.raises(asyncio.CancelledError), metrics.invocation("GET", POD, "r", KEY):
        raise asyncio.CancelledError
    [(labels, count)] = samples(metrics, "modelmesh_invoke_model_milliseconds_count")
    assert (labels["method"], labels["code"], count) == ("ModelMetadata", "CANCELLED", 1)


def test_series_of_a_pod_begin_at_nothing_and_end_with_it():
    now = 0.0
    metrics = Metrics(now=lambda: now)
    metrics.pods((VIEW,), 0.0)
    assert samples(metrics, "modelmesh_loadmodel_failure") == [(AT, 0)]
    assert samples(metrics, "modelmesh_loadmodel_milliseconds_count") == [(AT, 0)]
    metrics.load_failed(POD)
    metrics.counted(report(3.0, 2))
    metrics.counted(report(3.0, 1, pod="", runtime="", code="NOT_FOUND"))
    now += FORGET_SECONDS - 1
    metrics.pods((), 0.0)
    assert samples(metrics, "modelmesh_loadmodel_failure") == [(AT, 1)]
    now += 2
    metrics.pods((), 0.0)
    assert samples(metrics, "modelmesh_loadmodel_failure") == []
    [(labels, count)] = samples(metrics, "modelmesh_api_request_milliseconds_count")
    assert (labels, count) == ({"method": "ModelInfer", "code": "NOT_FOUND"}, 1)  # of no pod: never forgotten
    now += 2 * FORGET_SECONDS
    metrics.pods((VIEW,), 0.0)
    now += 2 * FORGET_SECONDS
    metrics.pods((VIEW,), 0.0)
    assert samples(metrics, "modelmesh_loadmodel_failure") == [(AT, 0)]  # an idle pod keeps its series


def test_models_are_named_where_that_is_asked_for():
    metrics = Metrics(per_model=True)
    metrics.loaded(POD, RevisionId("r"), 1.0, 1000)
    metrics.cache_miss(POD, "r", KEY, 1.0)
    metrics.counted(report(3.0, 2, revision="r", endpoint="digits"))
    assert samples(metrics, "modelmesh_loadmodel_milliseconds_count") == [(AT | {"modelId": "r"}, 1)]
    named = AT | {"modelId": "r", "vModelId": "digits"}
    assert samples(metrics, "modelmesh_cache_miss_milliseconds_count") == [(named, 1)]
    assert samples(metrics, "modelmesh_api_request_milliseconds_count")[0][0].items() >= named.items()


@pytest.mark.server
async def test_cold_requests_over_rest_are_calls_of_a_model_server_too(world):
    await world.start_pod("pod-1")
    await world.start_mesh()
    await world.management.registerModel(pb.RegisterModelRequest(modelId="one", modelInfo=model_info("one")))
    base = f"http://{world.subnet}.1"
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{base}:18008/v2/models/one/infer", json=body, headers={"mm-model-id": "one"})
        assert answer.status_code == 200, answer.text
        lines = (await http.get(f"{base}:18080/metrics")).text.splitlines()
    labels = 'code="OK",method="ModelInfer",pod="pod-1",runtime="test"'
    assert f"modelmesh_invoke_model_milliseconds_count{{{labels}}} 1.0" in lines


@pytest.mark.server
async def test_metrics_have_a_port_of_their_own_as_soon_as_it_is_free(world, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(process, "METRICS_RETRY", 0.05)
    host = f"{world.subnet}.1"
    files = ensure(tmp_path, host)
    own = replace(world.settings, metrics_port=2112, metrics_tls=TlsFiles(files.certificate, files.key))
    with socket.socket() as other:
        other.bind((host, 2112))
        other.listen()
        async with process.MeshProcess(own), httpx.AsyncClient(trust_env=False, verify=False) as http:
            await until(lambda: "metrics are at" in caplog.text, "the mesh to say that the port is taken")
            assert (await http.get(f"http://{host}:18080/metrics")).status_code == 200
            other.close()

            async def answered() -> httpx.Response | None:
                with contextlib.suppress(httpx.TransportError):
                    return await http.get(f"https://{host}:2112/metrics")
                return None

            async with asyncio.timeout(10):
                while (answer := await answered()) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert "modelmesh_models_managed_total 0.0" in answer.text
            assert (await http.get(f"https://{host}:2112/copies")).status_code == 404
    [told] = [record for record in caplog.records if "metrics are at" in record.message]
    start = (
        f"metrics are at {host}:18080 only: cannot listen on {host}:2112: Address already in use by pid {os.getpid()} ("
    )
    assert told.message.startswith(start)
    assert told.message.endswith("; choose another metrics.port in model-serving-config")
