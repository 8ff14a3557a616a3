"""One mesh process: builds the parts, connects them, and takes them down in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Self

from starlette.applications import Starlette

from shoal.core.core import Core
from shoal.core.events import PodDraining, PodLeft, RoutesAcknowledged, ServerExited, Tick
from shoal.core.rollout.record import Rollout, Verb
from shoal.core.settings import CoreSettings
from shoal.core.suspicion import Cause
from shoal.core.types import CopyState, EndpointView, PodId, RevisionId, RuntimeName
from shoal.gateway.control import GatewayControl
from shoal.gateway.protocols import GatewayCallbacks, Gateways, Upstream
from shoal.listening import by, port_owner, require_bindable
from shoal.mesh.activator import grpc as activator_grpc
from shoal.mesh.activator.forwarding import Forwarder
from shoal.mesh.activator.grpc import Activator
from shoal.mesh.activator.http import RestActivator
from shoal.mesh.activator.server_api import ServerApi
from shoal.mesh.api import Declaration, PodEndpoint, RolloutHistory, RuntimeChooser, SampleReader
from shoal.mesh.engine.change_feed import ChangeFeed
from shoal.mesh.engine.engine import Engine
from shoal.mesh.engine.faults import Fault
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.in_flight import InFlight
from shoal.mesh.pods.link import PodLink
from shoal.mesh.rollout.assembly import RolloutParts
from shoal.mesh.rollout.steering import Steering
from shoal.mesh.serve import reflection
from shoal.mesh.serve.admin import Admin
from shoal.mesh.serve.executor import ActionExecutor
from shoal.mesh.serve.health import Health
from shoal.mesh.serve.http_server import serving
from shoal.mesh.serve.management import Management
from shoal.mesh.serve.settings import MeshSettings
from shoal.mesh.serve.usage import UsageCollector
from shoal.mesh.state.catalog import Catalog
from shoal.mesh.state.models import Models
from shoal.registry.election import Election
from shoal.registry.open import open_registry
from shoal.registry.protocol import FencedError, RegistryError

log = logging.getLogger(__name__)

USAGE_INTERVAL = 1.0
COLLECT_SECONDS = 2.0
"""How long gateways have to report what they counted since their last report."""
RECOVERY_POLL = 0.2
METRICS_RETRY = 10.0


class MeshProcess:
    """The mesh, as an async context manager; implements `MeshApi`.

    Args:
        settings: ports, limits and waits.
        core: settings of the decisions.
        check_invariants: verify the core's invariants after every event and log what is broken.
    """

    def __init__(
        self,
        settings: MeshSettings,
        core: CoreSettings | None = None,
        *,
        check_invariants: bool = False,
    ) -> None:
        self._settings = settings
        self._metrics = Metrics(per_model=settings.per_model_metrics)
        self._feed = ChangeFeed()
        self._in_flight = InFlight()
        self._links: dict[PodId, PodLink] = {}
        self._pod_listeners: list[Callable[[PodId, str], None]] = []
        self._link_tasks: dict[PodId, asyncio.Task[None]] = {}
        self._engine = Engine(Core(core or CoreSettings()), check_invariants=check_invariants)
        self._engine.faults.listen(lambda _: self._metrics.fault())
        self._usage = UsageCollector(self._engine.submit, self._in_flight, self._metrics, self._engine.now)
        self._synced = asyncio.Event()
        self._serving = False
        self._health = Health()
        self._stack = contextlib.AsyncExitStack()

    # --- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Restore what is durable and start serving. Raises OSError, if a port is taken, and RegistryError."""
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop in order: take no new requests, let those under way end, write down usage, let go of pods."""
        self._serving = False
        await self._health.close()
        try:
            await self._collect_usage()
        finally:
            await self._stack.aclose()

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        for port in settings.ports:
            require_bindable(settings.host, port)
        registry, election = await open_registry(settings.registry)
        stack.push_async_callback(registry.close)
        term = await election.campaign()
        stack.push_async_callback(election.resign)
        log.info("elected for term %d", term)
        self._catalog = Catalog(registry, term)
        self._models = Models(self._engine, self._catalog, self._feed)
        self._steering = Steering(self._engine, self._catalog)
        self._rollouts = RolloutParts(
            self._engine, self._links, self._in_flight, self._metrics.registry, self._models.info
        )  # fmt: skip
        self._gateways: Gateways = GatewayControl(
            settings.of_gateways,
            GatewayCallbacks(
                self._acknowledged,
                self._usage.gateway_reported,
                self._rollouts.observer.observed,
                self._metrics.counted,
            ),
        )
        executor = ActionExecutor(
            self._engine, self._models, self._gateways, self._links, self._in_flight, self._metrics, self._feed,
            activator=Upstream("", settings.host, settings.activator_grpc_port, settings.activator_http_port),
            warmer=self._rollouts.warmer,
            asker=self._rollouts.asker,
            drain_quiet=settings.drain_quiet,
        )  # fmt: skip
        stack.push_async_callback(executor.close)
        stack.push_async_callback(self._rollouts.close)
        self._background(self._engine.run(executor))
        self._background(self._yield_to_successor(election, term))
        await self._models.restore(lambda what: log.info("restored %s", what))
        stack.push_async_callback(self._let_go)
        stack.push_async_callback(self._save_usage)
        await self._serve_requests()
        self._background(self._report_usage())
        self._background(self._rollouts.run())
        self._background(self._keep_usage())
        self._background(self._admit_gateways())

    async def _yield_to_successor(self, election: Election, term: int) -> None:
        """Once another mesh was elected, command nothing any more, and end."""
        await election.lost()
        error = FencedError(f"term {term} is over: another mesh was elected")
        self._engine.stand_down(error)
        raise error

    async def _serve_requests(self) -> None:
        settings, stack = self._settings, self._stack
        forwarder = Forwarder(
            self._engine, self._links.get, self._in_flight, self._metrics,
            max_wait=settings.max_wait, attempts=settings.forward_attempts,
        )  # fmt: skip
        await self._health.says(serving=False)
        api = ServerApi(self._models, lambda: not self._not_ready(), forwarder)
        shadower = self._rollouts.shadower
        activator = Activator(forwarder, self._metrics, self._gateways.want_revision, shadower)
        addresses = [f"{settings.host}:{port}" for port in (settings.activator_grpc_port, settings.management_port)]
        server = await activator_grpc.serve(
            [
                *Management(self._models).handlers(),
                api.handler(),
                self._health.handler(),
                *reflection.handlers(),
                activator,
            ],
            addresses,
            max_message=settings.max_message_bytes,
            limit=settings.max_concurrent_requests,
        )
        stack.push_async_callback(server.stop, settings.shutdown_grace)
        rest = RestActivator(
            api, forwarder, self._metrics, self._gateways.want_http, shadower, max_message=settings.max_message_bytes
        )
        stack.push_async_callback(rest.close)
        grace = settings.shutdown_grace
        await stack.enter_async_context(serving(rest.app(), settings.host, settings.activator_http_port, grace=grace))
        admin = Admin(
            self._engine.core, self._models, self._metrics, self._usage, self._steering, self._not_ready,
            self._engine.now, self._engine.faults, self._collect_usage,
        )  # fmt: skip
        await stack.enter_async_context(serving(admin.app(), settings.host, settings.admin_port, grace=grace))
        if settings.metrics_port is not None:
            self._background(self._serve_metrics(admin.metrics_app(), settings.metrics_port))

    async def _serve_metrics(self, app: Starlette, port: int) -> None:
        """For ever. That metrics cannot be served hurts no request, so it is tried again."""
        settings = self._settings
        told = False
        while True:
            try:
                async with serving(app, settings.host, port, grace=1, tls=settings.metrics_tls):
                    await asyncio.Future()
            except OSError as error:
                if not told:
                    holder = by(port_owner(port, settings.host))
                    log.error(  # noqa: TRY400
                        "metrics are at %s:%d only: %s%s; choose another metrics.port in model-serving-config",
                        settings.host, settings.admin_port, error, holder,
                    )  # fmt: skip
                told = True
                await asyncio.sleep(METRICS_RETRY)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)

        async def cancel() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._stack.push_async_callback(cancel)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self._failure.done():
            self._failure.set_exception(error)

    async def failed(self) -> None:
        """Never returns; raises what ended a part of the mesh, which is then of no use any more."""
        await self._failure

    def _not_ready(self) -> str:
        if not self._synced.is_set():
            return "declared state is still being read"
        return "" if self._serving else "waiting for pods to report what they have loaded"

    async def _admit_gateways(self) -> None:
        """Gateways drop every route the mesh does not name, so they are let in only once it knows what is loaded."""
        await self._synced.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.recovery_grace):
                while silent := await self._silent_pods():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(RECOVERY_POLL):
                            await asyncio.gather(*(link.reported.wait() for link in silent))
        await self._engine.apply(Tick())  # everything reported so far is in the route table
        await self._gateways.start()
        self._stack.push_async_callback(self._gateways.stop)
        self._serving = True
        await self._health.says(serving=True)
        log.info("serving")

    async def _silent_pods(self) -> list[PodLink]:
        """Pods whose model server runs, and that have not told yet what is loaded there."""
        links = [link for link in self._links.values() if not link.reported.is_set()]
        running = await asyncio.gather(*(link.serving() for link in links))
        return [link for link, runs in zip(links, running, strict=True) if runs]

    def _acknowledged(self, version: int) -> None:
        self._engine.submit(RoutesAcknowledged(version))

    async def _report_usage(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(USAGE_INTERVAL)
            now = time.monotonic()
            self._usage.flush(now - last)
            last = now

    async def _keep_usage(self) -> None:
        while True:
            await asyncio.sleep(self._settings.usage_flush_interval)
            await self._save_usage()

    async def _collect_usage(self) -> None:
        """Make durable what was used up to now, and not only up to the last reports."""
        await self._gateways.collect_usage(COLLECT_SECONDS)
        self._usage.flush(USAGE_INTERVAL)
        await self._save_usage()

    async def _save_usage(self) -> None:
        try:
            await self._engine.apply(Tick())  # what was reported so far is counted
            await self._catalog.save_usage(self._engine.core.last_uses())
        except FencedError:
            pass  # another mesh writes them down now
        except RegistryError as error:
            log.error("last uses were not saved, and are tried again: %s", error)  # noqa: TRY400

    async def _let_go(self) -> None:
        tasks = list(self._link_tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- MeshApi -----------------------------------------------------------------------------------------------------

    async def declare(self, declaration: Declaration) -> None:
        """See `MeshApi`."""
        await self._models.declare(declaration)

    async def undeclare(self, name: str, owner: str = "isvc") -> None:
        """See `MeshApi`."""
        await self._models.undeclare(name, owner)

    def rollout(self, name: str) -> RolloutHistory | None:
        """See `MeshApi`."""
        return self._steering.status(name)

    async def steer(self, name: str, verb: Verb, *, rollout: str = "", by: str = "", reason: str = "") -> Rollout:
        """See `MeshApi`."""
        return await self._steering.steer(name, verb, rollout=rollout, by=by, reason=reason)

    def declared(self, owner: str = "isvc") -> frozenset[str]:
        """See `MeshApi`."""
        return frozenset(self._models.declared_by(owner))

    def endpoint(self, name: str) -> EndpointView | None:
        """See `MeshApi`."""
        return self._models.alias(name)

    def runtime_of(self, revision: RevisionId) -> RuntimeName | None:
        """See `MeshApi`."""
        return self._models.runtime_of(revision)

    def changes(self) -> AsyncIterator[frozenset[str]]:
        """See `MeshApi`."""
        return self._feed.follow()

    def set_runtimes(self, choose: RuntimeChooser) -> None:
        """See `MeshApi`."""
        self._background(self._models.set_runtimes(choose))

    def set_samples(self, read: SampleReader) -> None:
        """See `MeshApi`."""
        self._rollouts.warmer.samples = read

    def pod_found(self, pod: PodEndpoint) -> None:
        """See `MeshApi`."""
        link = self._links.get(pod.id)
        if link and link.pod == pod:
            return
        if link:
            self.pod_gone(pod.id)
        self._links[pod.id] = link = PodLink(
            pod, self._engine.submit, self._loaded_since, self._metrics,
            judged=partial(self._judged, pod.id), lost_after=self._settings.pod_lost_after, now=self._engine.now,
        )  # fmt: skip
        self._link_tasks[pod.id] = asyncio.create_task(link.run())

    def pod_stopping(self, pod: PodId) -> None:
        """See `MeshApi`."""
        self._engine.submit(PodDraining(pod))

    def pod_gone(self, pod: PodId) -> None:
        """See `MeshApi`."""
        if self._links.pop(pod, None):
            self._link_tasks.pop(pod).cancel()
            self._engine.submit(PodLeft(pod))

    def server_exited(self, pod: PodId, cause: Cause, words: str) -> None:
        """See `MeshApi`."""
        self._engine.submit(ServerExited(pod, cause, words))

    def on_pod(self, listener: Callable[[PodId, str], None]) -> None:
        """See `MeshApi`."""
        self._pod_listeners.append(listener)

    def _judged(self, pod: PodId, why: str) -> None:
        for listener in self._pod_listeners:
            listener(pod, why)

    def on_fault(self, listener: Callable[[Fault], None]) -> None:
        """See `MeshApi`."""
        self._engine.faults.listen(listener)

    def synced(self) -> None:
        """See `MeshApi`."""
        self._synced.set()

    def _loaded_since(self, pod: PodId) -> dict[RevisionId, float]:
        core = self._engine.core
        return {c.revision: c.since for c in core.copies_on(pod) if c.state is CopyState.LOADED}
