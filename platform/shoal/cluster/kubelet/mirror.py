"""A local copy of one kind of object in one namespace, kept current by list and watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from shoal.cluster.errors import ApiRequestError, ApiUnreachableError
from shoal.cluster.kube_client import ApiResource, KubeClient, Object

log = logging.getLogger(__name__)
_RETRY_SECONDS = 0.5


class Mirror:
    """Objects by name. `changed` is called after every change."""

    def __init__(self, client: KubeClient, resource: ApiResource, namespace: str, changed: Callable[[], None]) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self._client = client
        self._namespace = namespace
        self._changed = changed
        self._objects: dict[str, Object] = {}
        self._seen = 0

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    def get(self, name: str) -> Object | None:
        """One object."""
        return self._objects.get(name)

    def put(self, item: Object) -> None:
        """Take over an object the server just answered with, ahead of the watch, unless the watch knows better."""
        name = item["metadata"]["name"]
        current = self._objects.get(name)
        # Without a current one the object is new, or was deleted after this answer was made.
        newest = _version(current["metadata"]) if current else self._seen + 1
        if _version(item["metadata"]) >= newest:
            self._objects[name] = item

    async def run(self) -> None:
        """Follow the server until cancelled; outages are waited out."""
        while True:
            try:
                await self._follow(await self._list())
            except ApiRequestError as error:
                if error.code != 410:
                    log.warning("watching %s: %s", self.resource.plural, error)
                    await asyncio.sleep(_RETRY_SECONDS)
            except ApiUnreachableError as error:
                log.info("watching %s: %s", self.resource.plural, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _list(self) -> str:
        items, version = await self._client.list(self.resource, self._namespace)
        self._objects = {item["metadata"]["name"]: item for item in items}
        self._seen = int(version) if version.isdigit() else 0
        self.synced.set()
        self._changed()
        return version

    async def _follow(self, version: str) -> None:
        """Watch from `version`; a watch the server ends is resumed where it was."""
        path = self.resource.path(self._namespace)
        while True:
            async for event in self._client.watch(path, {"resourceVersion": version}):
                item = event["object"]
                version = item["metadata"].get("resourceVersion", version)
                self._seen = max(self._seen, _version(item["metadata"]))
                if event["type"] == "BOOKMARK":
                    continue
                name = item["metadata"]["name"]
                if event["type"] == "DELETED":
                    self._objects.pop(name, None)
                else:
                    self._objects[name] = item
                self._changed()
            await asyncio.sleep(0)


def _version(metadata: Object) -> int:
    """A resourceVersion as a number, which it is on every server there is."""
    text = str(metadata.get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0
