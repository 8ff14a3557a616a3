"""Holds models back whose package lacks the evidence that is required of it, whoever declared them."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from shoal.controller.kube import CONFIG_MAP
from shoal.controller.store import DeclarationStore
from shoal.core.types import FailureReason, Unplaceable
from shoal.package.errors import PackageError
from shoal.package.keys import TrustedKeys, read_trusted
from shoal.resources.evidence import TRUSTED_KEYS
from shoal.resources.source import ModelSource
from shoal.resources.storage import Storage

_LOG = logging.getLogger(__name__)
_THREADS = 2
_REMEMBERED = 4096
RETRY_SECONDS = 10.0
"""After this a package that lacked evidence is looked at again: it may have been added since."""


class EvidenceReader(Protocol):
    """Looks into packages; blocks, and may be called from several threads."""

    def missing(
        self,
        source: ModelSource,
        requires: Sequence[str],
        trusted: TrustedKeys,
        *,
        entries: Mapping[str, Storage],
        claims: Path | None = None,
    ) -> str | None:
        """What required evidence a model's package lacks, and how to add it; None if nothing.

        Raises:
            PackageError: it cannot be known now.
        """


class EvidenceGate:
    """Asks for evidence on threads of its own; answers within `RETRY_SECONDS` are given again."""

    def __init__(
        self,
        store: DeclarationStore,
        claims: Path | None,
        clock: Callable[[], float],
        reader: EvidenceReader | None = None,
    ) -> None:
        self._store = store
        self._claims = claims
        self._clock = clock
        self._reader = reader
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="evidence")
        self._known: OrderedDict[tuple[Any, ...], tuple[float, str]] = OrderedDict()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def held_back(self, source: ModelSource, requires: tuple[str, ...]) -> Unplaceable | None:
        """Why a model may not be loaded; None if its package carries all that is required."""
        if not requires:
            return None
        pems = self._pems()
        where = (source.storage_key, source.path, tuple(sorted(source.parameters.items())))
        key = (where, requires, tuple(sorted(pems.items())))
        known = self._known.pop(key, None)
        if known is None or self._clock() - known[0] >= RETRY_SECONDS:
            known = self._clock(), await self._ask(source, requires, pems)
        self._known[key] = known
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return Unplaceable(FailureReason.EVIDENCE_MISSING, known[1]) if known[1] else None

    def _pems(self) -> dict[str, str]:
        document = self._store.get(CONFIG_MAP, TRUSTED_KEYS) or {}
        return {str(name): str(pem) for name, pem in (document.get("data") or {}).items()}

    async def _ask(self, source: ModelSource, requires: tuple[str, ...], pems: Mapping[str, str]) -> str:
        entries = self._store.storage_entries()

        def work() -> str:
            reader = self._reader_made()
            trusted, wrong = read_trusted(pems)
            for problem in wrong:
                _LOG.warning("ConfigMap %s: %s", TRUSTED_KEYS, problem)
            return reader.missing(source, requires, trusted, entries=entries, claims=self._claims) or ""

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except PackageError as error:
            names = ", ".join(requires)
            return f"evidence is required ({names}) and cannot be read now: {error}; it is tried again"

    def _reader_made(self) -> EvidenceReader:
        if self._reader is None:
            # A third of a second, for object stores, that most clusters never need; two threads may both do it.
            from shoal.package.gate import Gate

            self._reader = Gate()
        return self._reader
