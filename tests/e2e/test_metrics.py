"""The mesh's metrics, through the API server's service proxy, as dashboards and scrapers read them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e_models import PIXELS, seed_form
from support.e2e import Cluster
from waiting import eventually

pytestmark = pytest.mark.server
PROXY = "/api/v1/namespaces/modelmesh-serving/services/shoal-mesh:admin/proxy"
ALWAYS = (
    "modelmesh_api_request_milliseconds_count",
    "modelmesh_request_size_bytes_count",
    "modelmesh_response_size_bytes_count",
    "modelmesh_cache_miss_milliseconds_count",
    "modelmesh_loadmodel_milliseconds_count",
    "modelmesh_loadmodel_failure",
    "modelmesh_unloadmodel_milliseconds_count",
    "modelmesh_loading_queue_delay_milliseconds_count",
    "modelmesh_loaded_model_size_bytes_count",
    "modelmesh_models_loaded_total",
    "modelmesh_models_with_failure_total",
    "modelmesh_models_managed_total",
    "modelmesh_instance_capacity_bytes",
    "modelmesh_instance_used_bytes",
    "modelmesh_instance_models_total",
)
"""Names that ModelMesh's dashboards use."""


def metrics(cluster: Cluster) -> dict[str, float]:
    """Sums over all labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(cluster.kubectl("get", "--raw", f"{PROXY}/metrics")):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_upstreams_names_are_there(cluster: Cluster, digits: str):
    found = metrics(cluster)
    assert [name for name in ALWAYS if name not in found] == []
    assert found["modelmesh_models_managed_total"] >= 1
    assert found["modelmesh_models_loaded_total"] >= 1
    assert found["modelmesh_loadmodel_milliseconds_count"] >= 1
    assert found["modelmesh_instance_capacity_bytes"] > found["modelmesh_instance_used_bytes"] > 0


def test_they_move_with_traffic(cluster: Cluster, digits: str):
    before = metrics(cluster)
    for _ in range(20):
        done = cluster.run("curl", "-sS", "-d", seed_form(PIXELS), f"{cluster.rest}/v2/models/{digits}/infer")
        assert '"8"' in done.out

    def moved() -> list[str]:
        after = metrics(cluster)
        return [name for name in after if "requests" in name and after[name] >= before.get(name, 0) + 20]

    assert "shoal_requests_total" in eventually(moved, "counts of requests to move", seconds=20)


def test_health(cluster: Cluster):
    for path in ("healthz", "readyz"):
        assert cluster.kubectl("get", "--raw", f"{PROXY}/{path}")
