"""Kubernetes Events on the objects the controller looks after: what happened to them, told once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shoal.controller.kube import EVENT, Document, KubeApi, KubeError
from shoal.controller.times import timestamp

_LOG = logging.getLogger(__name__)
_COMPONENT = "shoal-controller"
_MAX_QUEUED = 1000
_MAX_REMEMBERED = 4096
_REPEAT_AFTER = 60.0
"""Seconds within which the same event on the same object is told once."""
_MAX_MESSAGE = 1024


@dataclass(slots=True)
class _Told:
    at: float
    count: int


class Recorder:
    """Writes events one after the other in the background; when too many wait, new ones are dropped."""

    def __init__(self, kube: KubeApi, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._clock = clock
        self._waiting: asyncio.Queue[tuple[Document, int]] = asyncio.Queue(_MAX_QUEUED)
        self._told: OrderedDict[str, _Told] = OrderedDict()

    def tell(self, about: Mapping[str, Any], kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Something happened to an object."""
        document = self._event(about, kind, reason, message[:_MAX_MESSAGE])
        name, now = document["metadata"]["name"], self._clock()
        told = self._told.pop(name, None) or _Told(float("-inf"), 0)
        self._told[name] = told
        while len(self._told) > _MAX_REMEMBERED:
            self._told.popitem(last=False)
        if now - told.at < _REPEAT_AFTER:
            return
        told.at, told.count = now, told.count + 1
        try:
            self._waiting.put_nowait((document, told.count))
        except asyncio.QueueFull:
            _LOG.warning("too many events wait; dropped %s on %s", reason, document["involvedObject"]["name"])

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            document, count = await self._waiting.get()
            try:
                await self._write(document, count)
            except KubeError as error:
                _LOG.warning("cannot write event %s: %s", document["reason"], error)
            finally:
                self._waiting.task_done()

    async def flush(self) -> None:
        """Return when everything told so far is written."""
        await self._waiting.join()

    async def _write(self, document: Document, count: int) -> None:
        try:
            await self._kube.create(EVENT, document)
        except KubeError as error:
            if not error.is_conflict:
                raise
            patch = {"count": count, "lastTimestamp": document["lastTimestamp"]}
            metadata = document["metadata"]
            await self._kube.merge(EVENT, metadata["name"], patch, namespace=metadata["namespace"])

    def _event(self, about: Mapping[str, Any], kind: str, reason: str, message: str) -> Document:
        metadata = about["metadata"]
        identity = "\n".join((str(metadata.get("uid", "")), kind, reason, message))
        now = timestamp(self._clock())
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        # Kubernetes wants events about cluster-wide objects in `default`.
        namespace = metadata.get("namespace") or "default"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name'][:200]}.{digest}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": about.get("apiVersion", ""),
                "kind": about.get("kind", ""),
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata.get("uid", ""),
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "reportingInstance": "",
        }
