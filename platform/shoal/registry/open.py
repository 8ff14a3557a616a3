"""Choosing a registry by URL, as `--registry` does."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from shoal.registry import backends
from shoal.registry.election import Election
from shoal.registry.protocol import Registry, RegistryError


class Backend(Protocol):
    """What a module of `shoal.registry.backends` has. Its name begins the URLs that choose it."""

    PLACE: str
    """What follows in such a URL, for people: `PATH`, or empty where nothing may follow."""

    async def open_backend(self, place: str) -> tuple[Registry, Election]:
        """Open what is stored there.

        Raises:
            RegistryError: it cannot be opened.
        """


async def open_registry(url: str) -> tuple[Registry, Election]:
    """The registry at `sqlite:PATH` or `memory:`, and the election of who writes to it.

    Raises:
        RegistryError: the URL names no backend, or the backend cannot be opened.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(backends.__path__))
    scheme, colon, place = url.partition(":")
    if colon and scheme in names:
        backend = _backend(scheme)
        if bool(place) == bool(backend.PLACE):
            return await backend.open_backend(place)
    known = " or ".join(f"{name}:{_backend(name).PLACE}" for name in names)
    raise RegistryError(f"registry {url!r} is not known; use {known}")


def _backend(name: str) -> Backend:
    return cast("Backend", importlib.import_module(f"{backends.__name__}.{name}"))
