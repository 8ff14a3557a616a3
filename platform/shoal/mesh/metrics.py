"""Prometheus metrics under ModelMesh's names, where their meaning holds, so that existing dashboards go on working.

Upstream exports them from every pod; here the mesh exports them for all pods. What upstream has per instance carries a
`pod` label. Metrics of the request path count what passes the mesh (cold requests); hot ones are counted by the gateway
and appear as `shoal_requests_total`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shoal.core.types import PodView

TIME_MS: Final = (
    0.5, 1, 2, 5, 10, 20, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000, 120_000, 300_000,
)  # fmt: skip
AGE_MS: Final = tuple(
    seconds * 1000.0
    for seconds in (30, 300, 900, 3600, 4 * 3600, 12 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400)
)
MODEL_BYTES: Final = tuple(256 * 1024 * 4.0**step for step in range(8))
MESSAGE_BYTES: Final = tuple(128 * 4.0**step for step in range(8))
MILLI: Final = 1000.0


@dataclass(slots=True)
class Measured:
    """What is known of a request once it is answered."""

    code: str = "OK"
    response_bytes: int = 0


class Metrics:
    """All metrics of a mesh process, in a registry of their own.

    Args:
        per_model: label times and sizes with `modelId` and `vModelId`.
    """

    def __init__(self, *, per_model: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._per_model = per_model
        model = ("modelId", "vModelId") if per_model else ()
        pod = ("pod", "runtime")

        def times(name: str, what: str, labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(f"modelmesh_{name}", what, labels, buckets=TIME_MS, registry=self.registry)

        def gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"modelmesh_{name}", what, labels, registry=self.registry)

        def counter(name: str, what: str) -> Counter:
            return Counter(f"modelmesh_{name}", what, registry=self.registry)

        request = ("method", "code")
        self._api_request = times(
            "api_request_milliseconds", "Requests the mesh answered, from arrival to answer", request
        )
        self._invoke = times("invoke_model_milliseconds", "Calls of a model server by the mesh", request)
        self._request_size = Histogram(
            "modelmesh_request_size_bytes", "Size of requests", request, buckets=MESSAGE_BYTES, registry=self.registry
        )
        self._response_size = Histogram(
            "modelmesh_response_size_bytes", "Size of answers", request, buckets=MESSAGE_BYTES, registry=self.registry
        )
        self._cache_miss = times("cache_miss_milliseconds", "How long requests waited for a model to be loaded", model)
        self._load = times("loadmodel_milliseconds", "Loads, as the pod took for them", model)
        self._load_failure = counter("loadmodel_failure", "Loads that failed")
        self._unload = times("unloadmodel_milliseconds", "Unloads")
        self._unload_attempt = counter("unloadmodel_attempt_failure", "Attempts to unload that failed")
        self._queue_delay = times("loading_queue_delay_milliseconds", "How long loads waited for their turn", model)
        self._sizing = times("model_sizing_milliseconds", "How long models took to be measured", model)
        self._age = Histogram(
            "modelmesh_age_at_eviction_milliseconds",
            "Time since the last use of models that were evicted",
            model,
            buckets=AGE_MS,
            registry=self.registry,
        )
        self._model_size = Histogram(
            "modelmesh_loaded_model_size_bytes",
            "Size of loaded models",
            model,
            buckets=MODEL_BYTES,
            registry=self.registry,
        )
        self.models_loaded = gauge("models_loaded_total", "Models with a loaded copy")
        self.models_failed = gauge("models_with_failure_total", "Models that failed to load")
        self.models_managed = gauge("models_managed_total", "Models that are declared")
        self._lru = gauge("instance_lru_seconds", "When the least recently used model of a pod was last used", pod)
        self._lru_age = gauge("instance_lru_age_seconds", "How long ago that was", pod)
        self._capacity = gauge("instance_capacity_bytes", "What a pod can hold", pod)
        self._used = gauge("instance_used_bytes", "What its models use", pod)
        self._used_bps = gauge("instance_used_bps", "The same in hundredths of a percent of its capacity", pod)
        self._pod_models = gauge("instance_models_total", "Models on a pod", pod)
        self._evictions = Counter("shoal_evictions", "Copies that were evicted to make room", registry=self.registry)
        self._faults = Counter(
            "shoal_faults", "Defects of the mesh itself that showed; its log has them", registry=self.registry
        )
        self._requests = Counter(
            "shoal_requests", "Requests by how they were served", ("path",), registry=self.registry
        )
        self.loads_total = 0
        self.evictions_total = 0
        self.cold_total = 0
        self.hot_total = 0

    def _model(self, histogram: Histogram, revision: str, endpoint: str = "") -> Histogram:
        return histogram.labels(revision, endpoint) if self._per_model else histogram

    @contextmanager
    def request(self, method: str, size: int) -> Iterator[Measured]:
        """Measure one request to the mesh; the caller fills in how it ended."""
        measured, started = Measured(), time.perf_counter()
        self.cold_total += 1
        self._requests.labels("cold").inc()
        try:
            yield measured
        except BaseException:
            if measured.code == "OK":
                measured.code = "UNKNOWN"
            raise
        finally:
            short = method.rsplit("/", 1)[-1]
            self._api_request.labels(short, measured.code).observe((time.perf_counter() - started) * MILLI)
            self._request_size.labels(short, measured.code).observe(size)
            self._response_size.labels(short, measured.code).observe(measured.response_bytes)

    def invoked(self, method: str, code: str, seconds: float) -> None:
        """The mesh called a model server."""
        self._invoke.labels(method.rsplit("/", 1)[-1], code).observe(seconds * MILLI)

    def hot(self, requests: int) -> None:
        """The gateways routed so many requests themselves."""
        self.hot_total += requests
        self._requests.labels("hot").inc(requests)

    def cache_miss(self, revision: str, seconds: float) -> None:
        """A request waited for a copy."""
        self._model(self._cache_miss, revision).observe(seconds * MILLI)

    def loaded(self, revision: str, seconds: float, size: int) -> None:
        """A load succeeded."""
        self.loads_total += 1
        self._model(self._load, revision).observe(seconds * MILLI)
        self._model(self._model_size, revision).observe(size)

    def sized(self, revision: str, seconds: float) -> None:
        """A model was measured after its load."""
        self._model(self._sizing, revision).observe(seconds * MILLI)

    def load_failed(self) -> None:
        """A load failed."""
        self._load_failure.inc()

    def unloaded(self, seconds: float) -> None:
        """An unload succeeded."""
        self._unload.observe(seconds * MILLI)

    def unload_failed(self) -> None:
        """An unload failed; it is tried again."""
        self._unload_attempt.inc()

    def evicted(self, revision: str, age: float) -> None:
        """A copy was evicted, `age` seconds after its last use."""
        self.evictions_total += 1
        self._evictions.inc()
        self._model(self._age, revision).observe(max(0.0, age) * MILLI)

    def fault(self) -> None:
        """A defect of the mesh itself showed."""
        self._faults.inc()

    def queued(self, revision: str, seconds: float) -> None:
        """A load waited so long for its turn."""
        self._model(self._queue_delay, revision).observe(seconds * MILLI)

    def pods(self, pods: tuple[PodView, ...], now: float) -> None:
        """Show the pods as they are now; pods that are gone disappear."""
        for gauge in (self._lru, self._lru_age, self._capacity, self._used, self._used_bps, self._pod_models):
            gauge.clear()
        for view in pods:
            labels = (view.spec.id, view.spec.runtime)
            capacity = view.spec.capacity_bytes
            self._lru.labels(*labels).set(view.oldest_use or 0)
            self._lru_age.labels(*labels).set(now - view.oldest_use if view.oldest_use else 0)
            self._capacity.labels(*labels).set(capacity)
            self._used.labels(*labels).set(view.used_bytes)
            self._used_bps.labels(*labels).set(10_000 * view.used_bytes / capacity if capacity else 0)
            self._pod_models.labels(*labels).set(view.copies)
