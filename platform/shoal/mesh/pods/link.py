"""Connections to the adapters of runtime pods: what they report, and the loads and unloads asked of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from typing import Final

import grpc
import grpc.aio

from shoal.core.events import (
    CopyMissing,
    Event,
    LoadFailed,
    LoadSucceeded,
    PodDraining,
    PodLeft,
    PodPressed,
    PodReported,
    SizeMeasured,
    UnloadFailed,
    UnloadSucceeded,
)
from shoal.core.types import LoadedCopy, PodId, PodSpec, RevisionId
from shoal.mesh.api import ModelInfo, PodEndpoint
from shoal.mesh.metrics import Metrics
from shoal.mesh.pods.incidents import Incidents
from shoal.mesh.pods.prefetching import Prefetches, load_request
from shoal_protos import inference as oip
from shoal_protos.adapter import adapter_pb2 as adapter
from shoal_protos.adapter import adapter_pb2_grpc
from shoal_protos.mmesh import model_runtime_pb2 as runtime
from shoal_protos.mmesh import model_runtime_pb2_grpc

log = logging.getLogger(__name__)

CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.use_local_subchannel_pool", 1),
)
RECONNECT_AFTER: Final = 0.3
STATUS_POLL: Final = 2.0
"""How often a runtime without Shoal's adapter is asked whether it is ready (upstream's interval)."""
UNLOAD_TIMEOUT: Final = 60.0
SIZING_TIMEOUT: Final = 30.0
SETTLED_AFTER: Final = 5.0
"""A copy loaded longer ago than this, and absent from an adapter's report, is gone: reports do not lag more."""
PROBE_TIMEOUT: Final = 1.0
DYING_TIMEOUT: Final = 0.3
"""How long after a request failed its server may take to be gone."""
ANSWER_TIMEOUT: Final = 15.0
"""How much longer than a load may take its answer is waited for: the adapter gives it up itself, and says why."""
WORD_TIMEOUT: Final = 1.0
"""How long an adapter that is there has to say why its model server does not answer."""


class PodLink:
    """One runtime pod: keeps its state known to the core and carries out what the core asks of it.

    Args:
        pod: where it is.
        submit: how the core is told.
        loaded_since: when each copy the core takes for loaded there was loaded.
        metrics: load and unload times.
        judged: told whenever it can be used (empty) or cannot, and why.
        lost_after: seconds without the adapter after which the pod counts as lost.
        now: the core's clock.
    """

    def __init__(
        self,
        pod: PodEndpoint,
        submit: Callable[[Event], None],
        loaded_since: Callable[[PodId], dict[RevisionId, float]],
        metrics: Metrics,
        *,
        judged: Callable[[str], None],
        lost_after: float,
        now: Callable[[], float],
    ) -> None:
        self.pod = pod
        self.reported = asyncio.Event()
        self.drains = False
        """Unloads there wait for the requests that are under way."""
        self.inference = grpc.aio.insecure_channel(f"{pod.host}:{pod.grpc_port}", options=CHANNEL_OPTIONS)
        self._management = grpc.aio.insecure_channel(f"{pod.host}:{pod.management_port}", options=CHANNEL_OPTIONS)
        self._adapter = adapter_pb2_grpc.AdapterStub(self._management)  # type: ignore[no-untyped-call]
        self._runtime = model_runtime_pb2_grpc.ModelRuntimeStub(self._management)  # type: ignore[no-untyped-call]
        self.prefetches = Prefetches(self._adapter)
        self._submit = submit
        self._loaded_since = loaded_since
        self._metrics = metrics
        self._judged = judged
        self._lost_after = lost_after
        self._now = now
        self._loads: dict[RevisionId, asyncio.Task[None]] = {}
        self._unloads: set[asyncio.Task[None]] = set()
        self._present = False
        self._incarnation = ""
        # Answers to calls made before the core was told that the pod left, or came back, mean nothing to it any more.
        self._epoch = 0
        self._sizes: dict[str, int] = {}
        self._load_timeout = 90.0
        self._lost_timer: asyncio.TimerHandle | None = None
        self._incidents = Incidents(pod, submit, metrics)
        self._recycling = False
        self._cpu_pressure = 0.0
        self._absent = asyncio.Event()
        self._word: adapter.State | None = None
        """What the adapter said last, if that is that its server is ready; None also while the adapter is away."""
        self._return: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow the adapter until cancelled."""
        try:
            while True:
                try:
                    await self._follow()
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                        await self._follow_plain_runtime()
                    else:
                        log.debug("adapter of %s: %s %s", self.pod.id, error.code().name, error.details())
                await self._disconnected()
                if not self._present:
                    self._judged(f"its adapter does not answer at {self.pod.host}:{self.pod.management_port}")
                await asyncio.sleep(RECONNECT_AFTER)
        finally:
            await self._close()

    async def _close(self) -> None:
        if self._lost_timer:
            self._lost_timer.cancel()
        tasks = [*self._loads.values(), *self._unloads, *([self._return] if self._return else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self.prefetches.close(), return_exceptions=True)
        with contextlib.suppress(Exception):
            await self.inference.close()
            await self._management.close()

    # --- what the pod says ------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for state in self._adapter.watchState(adapter.WatchStateRequest()):
            if self._lost_timer:
                self._lost_timer.cancel()
                self._lost_timer = None
            self._incidents.tell(state)
            self._heard(state)

    def _heard(self, state: adapter.State) -> None:
        ready = state.status == adapter.State.READY
        self._word = state if ready else None
        if ready:
            self._ready(state)
            return
        if self._present:
            log.warning("pod %s is not ready: %s", self.pod.id, state.message)
            self._leave()
        self._judged(f"its adapter says: {state.message}" if state.message else "its model server is not ready")

    def _ready(self, state: adapter.State) -> None:
        self._load_timeout = (state.model_loading_timeout_ms or 90_000) / 1000
        self.drains = state.drains
        if not self._present or state.incarnation != self._incarnation:
            self._report(
                state.incarnation,
                PodSpec(
                    self.pod.id,
                    self.pod.runtime,
                    capacity_bytes=state.capacity_bytes,
                    load_concurrency=max(1, state.max_loading_concurrency),
                    default_model_bytes=state.default_model_size_bytes or 1_000_000,
                ),
                tuple(LoadedCopy(RevisionId(model.model_id), model.size_bytes) for model in state.models),
            )
        else:
            self._compare(state)
        self._sizes = {model.model_id: model.size_bytes for model in state.models}
        if state.cpu_pressure != self._cpu_pressure:
            self._cpu_pressure = state.cpu_pressure
            self._submit(PodPressed(self.pod.id, state.cpu_pressure))
        if state.recycling and not self._recycling:
            log.warning("pod %s needs another model server: %s", self.pod.id, state.recycling)
            self._submit(PodDraining(self.pod.id, restart=True))
        self._recycling = bool(state.recycling)

    def _report(self, incarnation: str, spec: PodSpec, loaded: tuple[LoadedCopy, ...]) -> None:
        self._present, self._incarnation = True, incarnation
        self._cpu_pressure = 0.0  # nobody told the core yet
        self._absent.clear()
        self._epoch += 1
        log.info("pod %s is ready with %d models", self.pod.id, len(loaded))
        self._submit(PodReported(spec, loaded, incarnation))
        self._judged("")
        self.reported.set()

    def _compare(self, state: adapter.State) -> None:
        settled = self._now() - SETTLED_AFTER
        present = {model.model_id for model in state.models}
        for revision, since in self._loaded_since(self.pod.id).items():
            if revision not in present and since < settled:
                self._submit(CopyMissing(self.pod.id, revision))
        for model in state.models:
            if self._sizes.get(model.model_id, model.size_bytes) != model.size_bytes:
                self._submit(SizeMeasured(self.pod.id, RevisionId(model.model_id), model.size_bytes))

    async def _disconnected(self) -> None:
        """The adapter is away. Its model server may well go on serving; only when that is gone too the pod has left."""
        self._word = None
        if not self._present:
            return
        if not await self.serving():
            self._leave()
        elif not self._lost_timer:
            self._lost_timer = asyncio.get_running_loop().call_later(self._lost_after, self._leave)

    def _leave(self) -> None:
        if self._lost_timer:  # it would make the pod leave again once it is back
            self._lost_timer.cancel()
            self._lost_timer = None
        if self._present:
            self._present = False
            self._absent.set()
            self._epoch += 1
            self._sizes = {}
            self._submit(PodLeft(self.pod.id))

    async def serving(self) -> bool:
        """Whether the model server accepts connections."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                _, writer = await asyncio.open_connection(self.pod.host, self.pod.grpc_port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def holds(self, revision: RevisionId) -> bool:
        """Whether the model server itself says that it has a model. False where it cannot be asked."""
        ready = self.inference.unary_unary(
            oip.method_path("ModelReady"),
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=oip.ModelReadyResponse.FromString,
        )
        try:
            answer = await ready(oip.ModelReadyRequest(name=revision), timeout=PROBE_TIMEOUT)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.ready)

    async def check(self) -> bool:
        """Look again, because a request failed to reach this pod. False: it is gone, and the core knows.

        A server that is just being killed goes on accepting connections for a moment, so it is looked at twice. Its
        adapter is asked first, by waiting for it: it tells what the server was busy with when it died. Where it tells
        nothing the server may just be too busy to accept connections: the pod is back as soon as it does.
        """
        if await self.serving():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DYING_TIMEOUT):
                    await self._absent.wait()
            if self._present and await self.serving():
                return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WORD_TIMEOUT):
                if self._present and not self._lost_timer:
                    await self._absent.wait()
        if self._word is not None and self._present and await self.serving():
            return True
        self._leave()
        self._judged(f"its model server accepts no connections at {self.pod.host}:{self.pod.grpc_port}")
        if self._word is not None and (self._return is None or self._return.done()):
            self._return = asyncio.create_task(self._await_return())
        return False

    async def _await_return(self) -> None:
        """Look for a server that accepted no connections, as long as its adapter says that it is ready."""
        while self._word is not None and not self._present:
            if not await self.serving():
                await asyncio.sleep(RECONNECT_AFTER)
            elif self._word is not None and not self._present:
                self._ready(self._word)

    async def _follow_plain_runtime(self) -> None:
        """A runtime that only speaks `mmesh.ModelRuntime`: ask once, which empties it, then watch the connection."""
        while True:
            status = await self._runtime.runtimeStatus(runtime.RuntimeStatusRequest(), timeout=STATUS_POLL * 5)
            if status.status == runtime.RuntimeStatusResponse.READY:
                break
            self._judged("its model server is not ready")
            await asyncio.sleep(STATUS_POLL)
        self._load_timeout = (status.modelLoadingTimeoutMs or 90_000) / 1000
        spec = PodSpec(
            self.pod.id,
            self.pod.runtime,
            capacity_bytes=status.capacityInBytes,
            load_concurrency=max(1, status.maxLoadingConcurrency),
            default_model_bytes=status.defaultModelSizeInBytes or 1_000_000,
        )
        self._report(uuid.uuid4().hex, spec, ())
        while (state := self._management.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.SHUTDOWN:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                self._leave()
                return
            await self._management.wait_for_state_change(state)

    # --- what the pod is asked --------------------------------------------------------------------------------------

    def load(self, revision: RevisionId, info: ModelInfo) -> None:
        """Start a load; the core hears how it ended, and has a failed one unloaded."""
        previous = self._loads.get(revision)
        task = asyncio.create_task(self._load(revision, info, previous))
        self._loads[revision] = task
        task.add_done_callback(lambda done: self._loads.pop(revision) if self._loads.get(revision) is done else None)
        self.prefetches.loading(revision)
        task.add_done_callback(lambda _: self.prefetches.end(revision))

    def cancel_load(self, revision: RevisionId) -> None:
        """Give up a load; the core hears nothing of it and unloads next what was begun."""
        self.prefetches.end(revision)
        if task := self._loads.get(revision):
            task.cancel()

    def unload(self, revision: RevisionId) -> None:
        """Start an unload; the core hears how it ended."""
        task = asyncio.create_task(self._unload(revision, self._loads.get(revision)))
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)

    async def _load(self, revision: RevisionId, info: ModelInfo, previous: asyncio.Task[None] | None) -> None:
        epoch = self._epoch
        if previous:
            await asyncio.wait([previous])
        started = self._now()
        timeout = self._load_timeout + ANSWER_TIMEOUT
        try:
            response = await self._runtime.loadModel(load_request(revision, info), timeout=timeout)
            size = response.sizeInBytes or await self._measure(revision)
        except grpc.aio.AioRpcError as error:
            self._metrics.load_failed(self.pod)
            await self._incidents.told(error.trailing_metadata())
            self._answer(epoch, self._failure(revision, error))
        else:
            self._metrics.loaded(self.pod, revision, self._now() - started, size)
            self._sizes[revision] = size
            self._answer(epoch, LoadSucceeded(self.pod.id, revision, size))

    def _answer(self, epoch: int, event: Event) -> None:
        if epoch == self._epoch:
            self._submit(event)

    async def _measure(self, revision: RevisionId) -> int:
        started = self._now()
        try:
            answer = await self._runtime.modelSize(runtime.ModelSizeRequest(modelId=revision), timeout=SIZING_TIMEOUT)
        except grpc.aio.AioRpcError:
            return 0
        self._metrics.sized(self.pod, revision, self._now() - started)
        return int(answer.sizeInBytes)

    def _failure(self, revision: RevisionId, error: grpc.aio.AioRpcError) -> LoadFailed:
        code, details = error.code(), error.details() or error.code().name
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            details = f"Load of model {revision} timed out after {self._load_timeout:g}s"
        # An adapter that answers UNAVAILABLE itself (its storage is away) keeps its connection.
        connected = self._management.get_state() is grpc.ChannelConnectivity.READY
        unreachable = code is grpc.StatusCode.UNAVAILABLE and not connected
        return LoadFailed(self.pod.id, revision, details, counts=not unreachable)

    async def _unload(self, revision: RevisionId, load: asyncio.Task[None] | None) -> None:
        epoch = self._epoch
        if load:
            await asyncio.wait([load])
        started = self._now()
        try:
            await self._runtime.unloadModel(runtime.UnloadModelRequest(modelId=revision), timeout=UNLOAD_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                self._metrics.unload_failed(self.pod)
                self._answer(epoch, UnloadFailed(self.pod.id, revision, error.details() or error.code().name))
                return
        self._metrics.unloaded(self.pod, revision, self._now() - started)
        self._sizes.pop(revision, None)
        self._answer(epoch, UnloadSucceeded(self.pod.id, revision))

    async def release(self) -> None:
        """Tell a pod that is to be stopped that it may."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self._adapter.release(adapter.ReleaseRequest(), timeout=5)
