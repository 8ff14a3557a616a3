"""Files that a pod's adapter fetches for loads that wait for space there."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import grpc
import grpc.aio

from shoal.core.types import RevisionId
from shoal.mesh.api import ModelInfo
from shoal_protos.mmesh import model_runtime_pb2 as runtime

log = logging.getLogger(__name__)

PREFETCH_AFTER: Final = 0.05
"""Seconds a load waits for space before its files are asked for: most evictions are over by then."""


def load_request(revision: RevisionId, info: ModelInfo) -> runtime.LoadModelRequest:
    """How an adapter is told which model to load, or to fetch."""
    return runtime.LoadModelRequest(modelId=revision, modelType=info.type, modelPath=info.path, modelKey=info.key)


class Prefetches:
    """The prefetches of one pod. The core does not hear how they end, as a load fetches whatever is not there.

    An adapter keeps what it fetched while the call lasts, so that each call lasts until its load is over. One that does
    not know the call is not asked again.
    """

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self._known = True
        self._due: dict[RevisionId, asyncio.TimerHandle] = {}
        self._calls: dict[RevisionId, asyncio.Task[None]] = {}

    def begin(self, revision: RevisionId, info: ModelInfo) -> None:
        """Have a model's files fetched, unless its load begins in a moment."""
        if self._known:
            begun = asyncio.get_running_loop().call_later(PREFETCH_AFTER, self._begin, revision, info)
            self._due[revision] = begun

    def loading(self, revision: RevisionId) -> None:
        """A load begins: it fetches itself what was not begun."""
        if due := self._due.pop(revision, None):
            due.cancel()

    def end(self, revision: RevisionId) -> None:
        """A load is over, or not wanted any more."""
        self.loading(revision)
        if call := self._calls.pop(revision, None):
            call.cancel()

    async def close(self) -> None:
        """Give all of them up."""
        calls = list(self._calls.values())
        for revision in {*self._due, *self._calls}:
            self.end(revision)
        await asyncio.gather(*calls, return_exceptions=True)

    def _begin(self, revision: RevisionId, info: ModelInfo) -> None:
        del self._due[revision]
        self._calls[revision] = asyncio.create_task(self._fetch(revision, info))

    async def _fetch(self, revision: RevisionId, info: ModelInfo) -> None:
        try:
            async for _ in self._adapter.prefetch(load_request(revision, info)):
                log.debug("the files of %s are fetched", revision)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                self._known = False
            log.debug("the files of %s are not fetched: %s %s", revision, error.code().name, error.details())
