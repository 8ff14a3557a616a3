"""The adapter's heart: keeps what the model server holds, what is on disk and what the mesh is told the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from shoal_runtime import processes
from shoal_runtime.board import StateBoard, Status
from shoal_runtime.charges import Charges
from shoal_runtime.drivers.base import Artifact, Driver, Loaded, Loss
from shoal_runtime.errors import (
    AdapterError,
    LoadTimeoutError,
    NotReadyError,
    ServerError,
    SilentError,
    StuckError,
    UnknownModelError,
)
from shoal_runtime.incidents import IncidentBook
from shoal_runtime.journal import Journal, JournalEntry
from shoal_runtime.lanes import Lanes, uninterrupted
from shoal_runtime.recycling import UNSEEN, Recycler
from shoal_runtime.removing import CONFIRM_SECONDS, UNLOAD_SECONDS, Remover
from shoal_runtime.requests import DeclaredModel
from shoal_runtime.scales import Scales
from shoal_runtime.settings import AdapterSettings
from shoal_runtime.storage import ArtifactStore, StorageError
from shoal_runtime.suspects import Handed, Suspects
from shoal_runtime.underway import Activity

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.25
"""Between two tries to reach a model server that starts."""
FAILED_RETRY_SECONDS = 2.0
"""Between two tries to put this pod's disk in order."""
VERDICT_SECONDS = 5.0
"""Longest a load that the server did not answer waits until it is known whether the server died."""
WEIGHT_TOLERANCE = 0.01
"""Share by which the processes' memory must change to be told anew."""


class Adapter:
    """One model server and its models. `run` must be running; everything is called on its event loop."""

    def __init__(self, settings: AdapterSettings, driver: Driver, store: ArtifactStore, scales: Scales) -> None:
        self._settings = settings
        self._driver = driver
        self._store = store
        self._scales = scales
        self._journal = Journal(settings.root_dir)
        self._suspects = Suspects(driver.notes_folder)
        self._lanes = Lanes()
        self._slots = asyncio.Semaphore(settings.loading_concurrency)
        self._emptying = asyncio.Lock()
        self.board = StateBoard()
        self._charges = Charges(self.board, self._suspects, IncidentBook(settings.root_dir))
        self._recycler = Recycler(self.board, driver, self._suspects, settings.pod_ip, settings.recycle_seconds)
        self.stopping = False
        """The pod is being stopped."""
        self.released = asyncio.Event()
        """Set once the mesh needs this pod no longer."""
        self._down = asyncio.Event()
        """There is no server, and what happened to the last one is told."""
        self._down.set()
        self._remover = Remover(driver, self._suspects, self._charges, self._recycler, self._down)

    # --- models ------------------------------------------------------------------------------------------------------

    async def load(self, model: DeclaredModel) -> Loaded:
        """Pulls the model and has it loaded; loading it again replaces it. A failed or cancelled load leaves nothing.

        Raises:
            AdapterError, StorageError: why it is not loaded.
        """
        handed = Handed(model.model_id)
        try:
            return await self._lanes.run(model.model_id, lambda: self._load(model, handed))
        except AdapterError as error:
            if (incident := handed.incident) is None:
                raise
            told = NotReadyError(incident.message) if isinstance(error, NotReadyError) else error
            told.incident = incident.id
            raise told from error

    async def prefetch(self, model: DeclaredModel, here: Callable[[], Awaitable[None]]) -> None:
        """Fetches the files of a model that will be loaded, says so by `here`, and keeps them until cancelled.

        Returns if there is nothing to fetch.

        Raises:
            NotReadyError, StorageError: why the load must fetch them, or cannot be done either.
        """
        self._require_ready()
        await self._store.prefetch(model.pull, here)

    async def unload(self, model_id: str) -> None:
        """When it returns the model is not in memory and not on disk. Unknown models are fine.

        Raises:
            NotReadyError: the server does not answer; the model goes as soon as it does.
        """
        await self._lanes.run(model_id, lambda: self._discard(model_id, UNLOAD_SECONDS, Activity.UNLOADING))

    def release(self) -> None:
        """The mesh needs this pod no longer; while its server must be started anew, nothing of what that one serves."""
        if self.board.view.recycling and not self.stopping:
            self._recycler.due.set()
        else:
            self.released.set()

    def predict(self, model: DeclaredModel) -> int:
        """Bytes the model will take, without looking at its storage."""
        return self._scales.book.predict(model.model_id, model.format, model.disk_bytes)

    async def size(self, model_id: str) -> int:
        """Bytes a loaded model takes.

        Raises:
            UnknownModelError: it is not loaded.
        """
        counted = self.board.models.get(model_id)
        if counted is None:
            raise UnknownModelError(f"model {model_id!r} is not loaded in this pod")
        return await self._driver.model_bytes(model_id) or counted

    async def _load(self, model: DeclaredModel, handed: Handed) -> Loaded:
        self._require_ready()
        seconds = self.load_timeout_ms / 1000
        touched = model.model_id in self.board.models
        try:
            async with asyncio.timeout(seconds) as limit:
                pulled = await self._store.pull(model.pull)
                artifact = model.artifact(pulled)
                async with self._slots:
                    touched = True
                    loaded = await self._serve(artifact, handed)
            # Not in a thread: a file of 100 bytes takes less than the thread's turn, for which a cold request waits.
            self._journal.note(JournalEntry(model.model_id, loaded.size_bytes, artifact.disk_bytes, artifact.format))
        except BaseException as error:
            left = max(0.0, (limit.when() or 0.0) - asyncio.get_running_loop().time())
            undone = self._clean_up(handed, left + CONFIRM_SECONDS) if touched else self._store.remove(model.model_id)
            await uninterrupted(undone)
            if isinstance(error, TimeoutError) and limit.expired():
                raise LoadTimeoutError(f"model {model.model_id!r} was not loaded within {seconds:g} s") from None
            raise
        self.board.add(model.model_id, loaded.size_bytes)
        log.info("loaded %s: %d bytes in memory, %d on disk", model.model_id, loaded.size_bytes, artifact.disk_bytes)
        return loaded

    async def _serve(self, artifact: Artifact, handed: Handed) -> Loaded:
        self._require_ready()
        self._scales.begin(artifact)
        try:
            with self._suspects.handed(handed):
                loaded = await self._asked(artifact)
        except BaseException:
            self._scales.failed(artifact)
            raise
        return replace(loaded, size_bytes=self._scales.finish(artifact, loaded.size_bytes))

    async def _asked(self, artifact: Artifact) -> Loaded:
        try:
            return await self._driver.load(artifact)
        except NotReadyError:
            # The server may have died of it. That is told before the load's failure is.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(VERDICT_SECONDS):
                    await self._down.wait()
            raise

    async def _discard(self, model_id: str, seconds: float, doing: Activity, load: Handed | None = None) -> None:
        self.board.drop(model_id)
        self._journal.strike(model_id)
        try:
            await self._remover.unload(model_id, seconds, doing, load)
        finally:
            await self._store.remove(model_id)

    async def _clean_up(self, load: Handed, seconds: float) -> None:
        """After a load that failed, whose error is the one to tell. Until this is confirmed the server may have it."""
        try:
            with self._suspects.handed(load):
                await self._discard(load.model_id, seconds, Activity.LOADING, load)
        except (AdapterError, StorageError, OSError) as error:
            log.warning("cleaning up after the failed load of %s: %s", load.model_id, error)

    def _require_ready(self) -> None:
        if self._emptying.locked():
            raise NotReadyError("the pod is being emptied")
        if self.board.view.status is not Status.READY:
            raise NotReadyError(f"the model server is not ready: {self.board.view.message}")
        if self.board.view.recycling:
            raise NotReadyError(f"this pod takes no new models now: {self.board.view.recycling}")

    # --- the model server --------------------------------------------------------------------------------------------

    @property
    def load_timeout_ms(self) -> int:
        """Longest a load may take."""
        return self.board.view.info.load_timeout_ms or self._settings.load_timeout_ms

    async def run(self) -> None:
        """Waits for the model server, puts things in order, watches it, and starts over when it is gone. Never ends."""
        silent_since = None
        while True:
            try:
                self._charges.look_back()
                info = await self._driver.ready()
                self.board.set(info=info)
                self._recycler.over()
                await self._recover()
            except SilentError as error:
                silent_since = silent_since or asyncio.get_running_loop().time()
                await self._end_silent(error, asyncio.get_running_loop().time() - silent_since)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except (AdapterError, StorageError) as error:
                silent_since = None
                if not self._recycler.unseen:
                    self.board.set(status=Status.STARTING, message=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except OSError as error:
                log.exception("this pod's disk cannot be put in order")
                self.board.set(status=Status.FAILING, message=f"this pod's disk cannot be put in order: {error}")
                await asyncio.sleep(FAILED_RETRY_SECONDS)
                continue
            self.board.set(status=Status.READY, message="")
            log.info("ready: %s with %d models", info.version, len(self.board.models))
            self._down.clear()
            silent_since = None
            await self._lost(await self._until_lost())

    async def _end_silent(self, error: SilentError, seconds: float) -> None:
        """A server that was found there and cannot be asked anything: it may hang since before this adapter came."""
        if self._recycler.unseen:
            return
        self.board.set(status=Status.STARTING, message=str(error))
        if self._hangs(seconds) and not await self._driver.answers():
            await self._lost(Loss(str(error), seconds))

    async def _until_lost(self) -> Loss:
        """Waits until the server is gone or hangs; ends one that must be started anew, once nobody needs it."""
        lost = asyncio.ensure_future(self._driver.lost(self._hangs))
        due = asyncio.ensure_future(self._recycler.due.wait())
        try:
            await asyncio.wait([lost, due], return_when=asyncio.FIRST_COMPLETED)
            if not lost.done() and not await self._recycler.end():
                self.board.set(status=Status.FAILING, message=f"{self.board.view.recycling}; {UNSEEN}")
            return await lost
        finally:
            lost.cancel()
            due.cancel()

    def _hangs(self, silent_seconds: float) -> bool:
        if silent_seconds >= self._settings.hang_seconds:
            return True
        if silent_seconds < self._settings.load_blocks_seconds:
            return False
        return bool(self._recycler.stuck) or self._suspects.loading()

    async def _lost(self, loss: Loss) -> None:
        """Tells what happened in the same change as that the server is gone; ends one that hangs."""
        log.warning("the model server is lost: %s", loss.why)
        if loss.silent_seconds is None:
            meant = self.stopping or self._recycler.ended or self._recycler.unseen
            message = await self._charges.died(self.board.view.recycling or loss.why, meant=meant)
        elif not (message := self.board.view.recycling):
            message = self._charges.hangs(loss.silent_seconds)
        self._charges.tell(status=Status.STARTING, message=message)
        self._down.set()
        if loss.silent_seconds is not None and not await self._recycler.end():
            self.board.set(status=Status.FAILING, message=f"{message}; {UNSEEN}")
        await self._lanes.empty()

    async def _recover(self) -> None:
        """Adopts what the server, the journal and the disk agree on; everything else is unloaded and removed."""
        port = self._driver.listening_port()
        process = None
        if port is not None:
            process = await asyncio.to_thread(processes.server_process, self._settings.pod_ip, port)
        entries = await asyncio.to_thread(self._journal.entries)
        held, files = await self._driver.held(), self._store.known()
        keep: frozenset[str] = frozenset()
        strangers = frozenset(files | entries.keys())
        if held is not None:
            keep = held.ready & entries.keys() & files
            strangers = (held.ready | held.other) - keep
        seconds = self.load_timeout_ms / 1000 + CONFIRM_SECONDS
        for model_id in strangers - self._recycler.stuck:
            try:
                await self._remover.unload(model_id, seconds, Activity.LOADING)
            except StuckError as error:
                log.warning("%s", error)
        for model_id in files - keep:
            await self._store.remove(model_id)
        for model_id in entries.keys() - keep:
            self._journal.strike(model_id)
        await asyncio.to_thread(self._driver.tidy, keep)
        server = str(process) if process is not None and held is not None else None
        same = held is not None and keep == entries.keys()
        self._scales.server_is(process if self._driver.weighed else None, self.board.view.info.warm_formats)
        self.board.set(incarnation=self._journal.incarnation(server, same=same))
        self.board.replace_models({model_id: entries[model_id].size_bytes for model_id in keep})

    async def empty(self) -> bool:
        """Unloads everything, as `mmesh.ModelRuntime/runtimeStatus` promises. False: the server is not ready."""
        if self.board.view.status is not Status.READY:
            return False
        async with self._emptying:
            await self._lanes.empty()
            for entry in await asyncio.to_thread(self._journal.entries):
                self._journal.strike(entry)
            self.board.replace_models({})
            try:
                await self._recover()
            except (NotReadyError, ServerError) as error:
                log.warning("emptying the pod: %s", error)
                return False
        return True

    async def weigh(self) -> None:
        """Notes what the server's processes use together, unless it is about what it was."""
        now, before = await self._scales.process_bytes(), self.board.view.process_bytes
        if abs(now - before) > before * WEIGHT_TOLERANCE:
            self.board.set(process_bytes=now)

    async def close(self) -> None:
        """Cancels loads under way and closes connections. What is loaded stays, for the next adapter to adopt."""
        await self._lanes.empty()
        await self._driver.close()
