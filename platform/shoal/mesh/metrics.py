"""Prometheus metrics under ModelMesh's names, so that existing dashboards go on working.

Upstream exports them from every pod; here the mesh exports them for all pods, with the labels `pod` and `runtime`.
Requests are counted by the gateways, which see all of them; what the mesh itself calls model servers for is added to
that. Series without a pod are of requests that none answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge

from shoal.core.types import PodView, RouteKey
from shoal.gateway.counting import MESSAGE_BYTES, TIME_MS
from shoal.gateway.protocols import Counted, Quantity
from shoal.mesh.api import PodEndpoint
from shoal.mesh.series import POD, Distribution, Labels, Tally

AGE_MS: Final = tuple(
    seconds * 1000.0
    for seconds in (30, 300, 900, 3600, 4 * 3600, 12 * 3600, 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400)
)
MODEL_BYTES: Final = tuple(256 * 1024 * 4.0**step for step in range(8))
MILLI: Final = 1000.0
FORGET_SECONDS: Final = 3600.0
"""How long the series of a pod outlast it: long enough for its last requests to be scraped."""
_LOAD, _POD = "load", "pod"
"""Why requests are refused at once."""
_METHODS: Final = frozenset(("ModelInfer", "ModelMetadata", "ModelStreamInfer"))
_OF_REST: Final = {"GET": "ModelMetadata", "POST": "ModelInfer"}


@dataclass(slots=True)
class Measured:
    """What is known of a request once it is answered."""

    code: str = "OK"


def method_name(method: str) -> str:
    """What the label `method` says for a gRPC method or an HTTP one: any name, but few of them."""
    name = _OF_REST.get(method) or method.rsplit("/", 1)[-1]
    return name if name in _METHODS else "other"


def _code_of(error: BaseException) -> str:
    """The status of gRPC that an exception stands for."""
    code = getattr(error, "code", None)
    if callable(code):  # grpc's own
        code = code()
    if isinstance(code, grpc.StatusCode):
        return str(code.name)
    return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "UNKNOWN"


def _endpoint(key: RouteKey) -> str:
    return "" if key.is_revision else key.name


class Metrics:
    """All metrics of a mesh process, in a registry of their own.

    Args:
        per_model: label times and sizes with `modelId` and `vModelId`.
        now: the clock by which series of pods that are gone are forgotten.
    """

    def __init__(self, *, per_model: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._per_model = per_model
        self._now = now
        pod = (POD, "runtime")

        def times(name: str, what: str) -> Distribution:
            return Distribution(f"modelmesh_{name}_milliseconds", what, TIME_MS, self.registry, now)

        def sizes(name: str, what: str) -> Distribution:
            return Distribution(f"modelmesh_{name}_size_bytes", what, MESSAGE_BYTES, self.registry, now)

        def gauge(name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"modelmesh_{name}", what, labels, registry=self.registry)

        def tally(name: str, what: str) -> Tally:
            return Tally(f"modelmesh_{name}", what, self.registry, now)

        self._counted = {
            Quantity.REQUEST_TIME: times(
                "api_request", "Requests for models, from their arrival to their answer's end"
            ),
            Quantity.MODEL_TIME: times("invoke_model", "The part of it at the model server"),
            Quantity.REQUEST_BYTES: sizes("request", "Size of requests"),
            Quantity.RESPONSE_BYTES: sizes("response", "Size of answers"),
        }
        self._activator = Distribution(
            "shoal_activator_request_milliseconds", "Requests the activator answered", TIME_MS, self.registry, now
        )
        self._cache_miss = times("cache_miss", "How long requests waited for a model to be loaded")
        self._load = times("loadmodel", "Loads, as the pod took for them")
        self._load_failure = tally("loadmodel_failure", "Loads that failed")
        self._unload = times("unloadmodel", "Unloads")
        self._unload_attempt = tally("unloadmodel_attempt_failure", "Attempts to unload that failed")
        self._queue_delay = times("loading_queue_delay", "How long loads waited for their turn")
        self._sizing = times("model_sizing", "How long models took to be measured")
        self._age = Distribution(
            "modelmesh_age_at_eviction_milliseconds", "Time since the last use of models that were evicted",
            AGE_MS, self.registry, now,
        )  # fmt: skip
        self._model_size = Distribution(
            "modelmesh_loaded_model_size_bytes", "Size of loaded models", MODEL_BYTES, self.registry, now
        )
        self._of_pods = (
            self._cache_miss,
            self._load, self._load_failure, self._unload, self._unload_attempt, self._queue_delay, self._sizing,
            self._age, self._model_size,
        )  # fmt: skip
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
        self._servers_lost = Counter(
            "shoal_model_servers_lost", "Model servers that died or hung", registry=self.registry
        )
        self._requests_interrupted = Counter(
            "shoal_requests_interrupted", "Requests that model servers answered when they died or hung",
            registry=self.registry,
        )  # fmt: skip
        self._requests_lost = Counter(
            "shoal_requests_lost", "Requests under way at a model server that crashed, which were not tried again",
            registry=self.registry,
        )  # fmt: skip
        self._requests_shed = Counter(
            "shoal_requests_shed",
            "Requests refused at once, with a time to try again: they would wait too long for a load, or their pod has "
            "as many as it can answer in time",
            ("reason",), registry=self.registry,
        )  # fmt: skip
        for reason in (_LOAD, _POD):
            self._requests_shed.labels(reason)
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

    def _at(self, pod: PodEndpoint | None, revision: str = "", endpoint: str = "", **labels: str) -> Labels:
        where = {POD: pod.id, "runtime": pod.runtime} if pod else {}
        model = {"modelId": revision, "vModelId": endpoint} if self._per_model else {}
        return labels | where | model

    # --- requests ----------------------------------------------------------------------------------------------------

    def counted(self, report: tuple[Counted, ...]) -> None:
        """A gateway counted this."""
        for one in report:
            if one.overflown and one.quantity is Quantity.REQUEST_TIME:
                self._requests_shed.labels(_POD).inc(one.count)
            labels = {"method": one.method, "code": one.code, POD: one.pod, "runtime": one.runtime}
            model = {"modelId": one.revision, "vModelId": one.endpoint}
            self._counted[one.quantity].add(labels | model, one.cumulative, one.count, one.total)

    @contextmanager
    def request(self, method: str) -> Iterator[Measured]:
        """Measure one request to the activator; the caller fills in how it ended."""
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
            labels = {"method": method_name(method), "code": measured.code}
            self._activator.observe(labels, (time.perf_counter() - started) * MILLI)

    @contextmanager
    def invocation(self, method: str, pod: PodEndpoint, revision: str, key: RouteKey) -> Iterator[Measured]:
        """Measure a call of a model server by the mesh."""
        measured, started = Measured(), time.perf_counter()
        try:
            yield measured
        except BaseException as error:
            measured.code = _code_of(error)
            raise
        finally:
            labels = self._at(pod, revision, _endpoint(key), method=method_name(method), code=measured.code)
            self._counted[Quantity.MODEL_TIME].observe(labels, (time.perf_counter() - started) * MILLI)

    def hot(self, requests: int) -> None:
        """The gateways routed so many requests themselves."""
        self.hot_total += requests
        self._requests.labels("hot").inc(requests)

    def cache_miss(self, pod: PodEndpoint | None, revision: str, key: RouteKey, seconds: float) -> None:
        """A request waited for a copy."""
        self._cache_miss.observe(self._at(pod, revision, _endpoint(key)), seconds * MILLI)

    # --- models ------------------------------------------------------------------------------------------------------

    def loaded(self, pod: PodEndpoint, revision: str, seconds: float, size: int) -> None:
        """A load succeeded."""
        self.loads_total += 1
        self._load.observe(self._at(pod, revision), seconds * MILLI)
        self._model_size.observe(self._at(pod, revision), size)

    def sized(self, pod: PodEndpoint, revision: str, seconds: float) -> None:
        """A model was measured after its load."""
        self._sizing.observe(self._at(pod, revision), seconds * MILLI)

    def load_failed(self, pod: PodEndpoint) -> None:
        """A load failed."""
        self._load_failure.increase(self._at(pod))

    def unloaded(self, pod: PodEndpoint, revision: str, seconds: float) -> None:
        """An unload succeeded."""
        self._unload.observe(self._at(pod, revision), seconds * MILLI)

    def unload_failed(self, pod: PodEndpoint) -> None:
        """An unload failed; it is tried again."""
        self._unload_attempt.increase(self._at(pod))

    def evicted(self, pod: PodEndpoint | None, revision: str, age: float) -> None:
        """A copy was evicted, `age` seconds after its last use."""
        self.evictions_total += 1
        self._evictions.inc()
        self._age.observe(self._at(pod, revision), max(0.0, age) * MILLI)

    def fault(self) -> None:
        """A defect of the mesh itself showed."""
        self._faults.inc()

    def server_lost(self, requests: int) -> None:
        """A model server died or hung while it answered so many requests."""
        self._servers_lost.inc()
        self._requests_interrupted.inc(requests)

    def request_lost(self) -> None:
        """A request that was under way at a model server that died was not tried again."""
        self._requests_lost.inc()

    def request_shed(self) -> None:
        """A request was refused at once because it would have waited in vain for a load, or too many wait for one."""
        self._requests_shed.labels(_LOAD).inc()

    def queued(self, pod: PodEndpoint, revision: str, seconds: float) -> None:
        """A load waited so long for its turn."""
        self._queue_delay.observe(self._at(pod, revision), seconds * MILLI)

    def pods(self, pods: tuple[PodView, ...], now: float) -> None:
        """Show the pods as they are now; pods that are gone disappear."""
        for gauge in (self._lru, self._lru_age, self._capacity, self._used, self._used_bps, self._pod_models):
            gauge.clear()
        there, before = {view.spec.id for view in pods}, self._now() - FORGET_SECONDS
        for series in (*self._of_pods, *self._counted.values()):
            series.forget(there, before)
        for view in pods:
            if not self._per_model:
                self._start(view)
            labels = (view.spec.id, view.spec.runtime)
            capacity = view.spec.capacity_bytes
            self._lru.labels(*labels).set(view.oldest_use or 0)
            self._lru_age.labels(*labels).set(now - view.oldest_use if view.oldest_use else 0)
            self._capacity.labels(*labels).set(capacity)
            self._used.labels(*labels).set(view.used_bytes)
            self._used_bps.labels(*labels).set(10_000 * view.used_bytes / capacity if capacity else 0)
            self._pod_models.labels(*labels).set(view.copies)

    def _start(self, view: PodView) -> None:
        """Have the series of a pod that all pods come to have, so that Prometheus sees their first increase too."""
        at = {POD: view.spec.id, "runtime": view.spec.runtime}
        for series in self._of_pods:
            series.start(at)
        for quantity in self._counted.values():
            quantity.start(at | {"method": "ModelInfer", "code": "OK"})
