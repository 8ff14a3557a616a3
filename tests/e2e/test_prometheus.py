"""A real Prometheus, configured as the documentation says, has what ModelMesh's dashboard and Shoal's own ask for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from e2e_models import samples, train_numbered
from shoal_protos import inference as oip
from support.e2e import Cluster, running, service
from support.prometheus import running_prometheus
from waiting import eventually

pytestmark = pytest.mark.server
NAMES = ("one", "two", "three", "four", "five", "six")
MIB = 1 << 20
DOCS = Path(__file__).parents[2] / "docs"
SELECTOR = 'namespace="modelmesh-serving",pod=~"modelmesh-serving-.*"'
"""What all queries of ModelMesh's dashboard select by, its variables filled in."""
MEANS = (
    "api_request_milliseconds",
    "invoke_model_milliseconds",
    "request_size_bytes",
    "response_size_bytes",
    "cache_miss_milliseconds",
    "loadmodel_milliseconds",
    "loaded_model_size_bytes",
    "age_at_eviction_milliseconds",
)
"""Histograms whose mean it shows."""
COUNTS = (
    "api_request_milliseconds",
    "invoke_model_milliseconds",
    "cache_miss_milliseconds",
    "loadmodel_milliseconds",
    "unloadmodel_milliseconds",
    "age_at_eviction_milliseconds",
)
"""Histograms whose count it shows, as a rate or an increase."""
BY_POD = ("api_request_milliseconds", "invoke_model_milliseconds")
"""Of these it shows the mean of answers with `code="OK"`, pod by pod."""
GAUGES = (
    "instance_lru_age_seconds",
    "instance_used_bytes",
    "instance_capacity_bytes",
    "instance_models_total",
    "models_managed_total",
    "models_loaded_total",
    "models_with_failure_total",
    "loadmodel_failure",
)
MAY_BE_IDLE = ("model_sizing_milliseconds",)
"""There, but not a number: only models whose size a runtime does not tell are measured."""


def mean(name: str, selector: str = SELECTOR) -> str:
    def rate(part: str) -> str:
        return f"sum by (pod) (rate(modelmesh_{name}_{part}{{{selector}}}[1m]))"

    return f"{rate('sum')} / {rate('count')}"


UPSTREAM = (
    *(mean(name) for name in MEANS),
    *(mean(name, f'{SELECTOR},code="OK"') for name in BY_POD),
    *(f"sum(rate(modelmesh_{name}_count{{{SELECTOR}}}[1m])) > 0" for name in COUNTS),
    *(f"modelmesh_{name}{{{SELECTOR}}}" for name in GAUGES),
)


def own() -> tuple[str, ...]:
    """The queries of Shoal's own dashboard."""
    dashboard = json.loads((DOCS / "grafana" / "shoal.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return tuple(expr.replace("$namespace", "modelmesh-serving").replace("$__rate_interval", "1m") for expr in found)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose one pod has no room for all of its models."""
    folder = tmp_path_factory.mktemp("models")
    with running(tmp_path_factory.mktemp("scraped"), "--pod-memory", "148Mi", "--pods-per-runtime", "1") as cluster:
        for number, name in enumerate(NAMES):
            train_numbered(folder / f"{name}.joblib", number, 1, 7 * MIB)
        cluster.must("pvc", "create", "numbered", "--from", str(folder))
        for name in NAMES:
            cluster.must("apply", "-f", "-", stdin=service(name, f"{name}.joblib", claim="numbered"))
        yield cluster


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Started as docs/operations.md says, with its very configuration."""
    [block] = re.findall(r"```yaml\n(scrape_configs:.*?)```", (DOCS / "operations.md").read_text(), re.DOTALL)
    config = cluster.root / "prometheus.yml"
    config.write_text(block)
    with running_prometheus(config, tmp_path_factory.mktemp("prometheus")) as url:
        yield url


def values(prometheus: str, query: str) -> list[float]:
    """What a query finds."""
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, trust_env=False).json()
    assert answer["status"] == "success", f"{query}: {answer}"
    return [float(entry["value"][1]) for entry in answer["data"]["result"]]


def ask(cluster: Cluster, name: str, compression: grpc.Compression = grpc.Compression.NoCompression) -> None:
    """A request that has to succeed. A compressed one is always cold: only the activator can read whom it is for."""
    request = oip.ModelInferRequest(model_name=name)
    pixels = samples(1)
    tensor = request.inputs.add(name="predict", datatype="FP32", shape=list(pixels.shape))
    tensor.contents.fp32_contents.extend(pixels.ravel().tolist())
    with grpc.insecure_channel(cluster.grpc, compression=compression) as channel:
        channel.unary_unary(oip.method_path("ModelInfer"))(request.SerializeToString(), timeout=60)


def test_every_query_finds_something(cluster: Cluster, prometheus: str) -> None:
    missing = dict.fromkeys((*UPSTREAM, *own()))

    def all_found() -> bool:
        for name in NAMES:  # each takes the room of another
            ask(cluster, name)
            ask(cluster, name)
        for query in list(missing):
            if any(not math.isnan(value) for value in values(prometheus, query)):
                del missing[query]
        return not missing

    try:
        eventually(all_found, "all queries to find something", seconds=60, every=0.5)
    except AssertionError:
        pytest.fail("nothing found by:\n" + "\n".join(missing))
    for name in MAY_BE_IDLE:
        assert values(prometheus, mean(name))


def test_hot_and_cold_requests_are_told_apart(cluster: Cluster, prometheus: str) -> None:
    name = "modelmesh_api_request_milliseconds_count"

    def counts() -> tuple[float, float]:
        hot = sum(values(prometheus, f'{name}{{runtime="mlserver-1.x",code="OK"}}'))
        return hot, sum(values(prometheus, f'{name}{{runtime="",pod="modelmesh-serving-mesh",code="OK"}}'))

    ask(cluster, NAMES[0])
    eventually(lambda: all(counts()), "a first scrape", seconds=30)
    hot, cold = counts()
    for _ in range(5):
        ask(cluster, NAMES[0])
        ask(cluster, NAMES[0], grpc.Compression.Gzip)

    def counted() -> bool:
        now = counts()
        return now[0] >= hot + 5 and now[1] >= cold + 5

    eventually(counted, "both kinds to be counted", seconds=30)
