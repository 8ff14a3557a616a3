"""Informers of the official client, handed to the event loop.

`SharedInformer` lists and watches on a thread of its own. Left alone it cannot list documents as dicts, tells nobody
when the first list is complete, and tries again at once and for ever when the API server is down; the list function
given to it here mends all three.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from kubernetes import client
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer
from urllib3.exceptions import HTTPError

from shoal.controller.kube import Document, Resource

_LOG = logging.getLogger(__name__)
_LIST_TIMEOUT = (5.0, 60.0)
_WATCH_TIMEOUT = (5.0, 330.0)
_WATCH_SECONDS = 300
"""The server ends a watch after so long; the informer lists anew then, which also heals anything missed."""
_LEAST_PAUSE = 0.2
_MOST_PAUSE = 10.0

Handler = Callable[[Resource, str, Document | None], None]
"""Called on the event loop with the object's name and the object, or None when it is gone."""


class _StoppedError(Exception):
    """Ends an informer's call because its watcher was stopped."""


class Watcher:
    """One collection, watched."""

    def __init__(
        self,
        connection: client.ApiClient,
        resource: Resource,
        namespace: str,
        handler: Handler,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self._connection = connection
        self._path = resource.path(namespace)
        self._handler = handler
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._selectors = {name: selector for name, selector in selectors.items() if selector}
        self._loop = asyncio.get_running_loop()
        self._synced = asyncio.Event()
        self._stopping = threading.Event()
        self._failures = 0
        self._last_call = 0.0
        self._live: Any = None
        self._informer = SharedInformer(self._list_function(), resync_period=_WATCH_SECONDS)
        self._informer.add_event_handler(ADDED, self._changed)
        self._informer.add_event_handler(MODIFIED, self._changed)
        self._informer.add_event_handler(DELETED, self._deleted)

    def start(self) -> None:
        """Begin on a thread of its own."""
        self._informer.start()

    async def wait_synced(self) -> None:
        """Return when every object of the first list was handed over."""
        await self._synced.wait()

    async def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._cut(self._live)
        await asyncio.to_thread(self._informer.stop)

    @staticmethod
    def _cut(response: Any) -> None:
        """Wake a thread that reads from a watch."""
        if response is not None:
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                response.shutdown()

    def _changed(self, document: Document) -> None:
        self._post(document["metadata"]["name"], document)

    def _deleted(self, document: Document) -> None:
        self._post(document["metadata"]["name"], None)

    def _post(self, name: str, document: Document | None) -> None:
        self._on_loop(self._handler, self.resource, name, document)

    def _on_loop(self, function: Callable[..., object], *arguments: object) -> None:
        if not self._stopping.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _list_function(self) -> Callable[..., Any]:
        def documents(**options: Any) -> Any:
            """List or watch the collection; the informer reads the type of items from this line.

            :return: object
            """
            return self._watch(options) if options.get("watch") else self._list()

        return documents

    def _list(self) -> SimpleNamespace:
        answer = self._get({}, _LIST_TIMEOUT, preload=True)
        metadata = SimpleNamespace(resource_version=answer.get("metadata", {}).get("resourceVersion"))
        return SimpleNamespace(items=answer.get("items") or [], metadata=metadata)

    def _watch(self, options: dict[str, Any]) -> Any:
        # The informer watches only after it handed over the whole first list.
        self._on_loop(self._synced.set)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(options.get("resource_version", "")),
            "timeoutSeconds": str(options.get("timeout_seconds", _WATCH_SECONDS)),
        }
        response = self._get(query, _WATCH_TIMEOUT, preload=False)
        # Seen by `stop`, or `stop` is seen here: a watch never goes on unnoticed until the server says something.
        self._live = response
        if self._stopping.is_set():
            response.close()
            raise _StoppedError
        return response

    def _get(self, query: dict[str, str], timeout: tuple[float, float], *, preload: bool) -> Any:
        self._pause()
        if self._stopping.is_set():
            raise _StoppedError
        query = query | self._selectors
        try:
            answer = self._connection.call_api(
                self._path,
                "GET",
                query_params=list(query.items()),
                header_params={"Accept": "application/json"},
                response_types_map={200: "object"},
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=preload,
                _request_timeout=timeout,
            )
        except Exception:
            self._failures += 1
            raise
        self._failures = 0
        return answer

    def _pause(self) -> None:
        """Keep calls apart, the more so the more of them failed in a row."""
        pause = min(_MOST_PAUSE, _LEAST_PAUSE * 2 ** min(self._failures, 10))
        self._stopping.wait(max(0.0, self._last_call + pause - time.monotonic()))
        self._last_call = time.monotonic()


class InformerLogFilter(logging.Filter):
    """Says in one line what the informer logs with a traceback: that the API server does not answer.

    A watch that was cut off is resumed and worth a note only; that is also how watches end when they are stopped.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the traceback, keep the cause."""
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            if isinstance(error, _StoppedError):
                return False
            record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}: {error}"[:300], ()
            record.exc_info = None
            record.levelno = logging.INFO if isinstance(error, HTTPError) else logging.WARNING
            record.levelname = logging.getLevelName(record.levelno)
        return logging.getLogger(record.name).isEnabledFor(record.levelno)


def quiet_informers() -> None:
    """Have the official client's informers log failures in one line each."""
    logger = logging.getLogger("kubernetes.informer.informer")
    if not any(isinstance(existing, InformerLogFilter) for existing in logger.filters):
        logger.addFilter(InformerLogFilter())
