"""Imports the libraries of model formats before the server answers: the first model else waits seconds for them.

Their memory is then the server's own, so that the growth measured around the first load is that model's.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Final

from shoal_runtime.servers.mlserver import FORMATS

log = logging.getLogger(__name__)

WARM_SECONDS: Final = 30.0
"""Longest the server waits for imports before it answers; they go on meanwhile."""
_EXTENSION: Final = "shoal.warm."
"""A server extension of this name and a format tells the adapter that the format is warm."""

WARM_MODULES: Final[Mapping[str, tuple[str, ...]]] = {name: known.warm for name, known in FORMATS.items() if known.warm}


def wanted_formats() -> tuple[str, ...]:
    """The formats `SHOAL_WARM_FORMATS` names: sklearn if it is unset, none if it is empty.

    Raises:
        ValueError: one is not known.
    """
    text = os.environ.get("SHOAL_WARM_FORMATS", "sklearn")
    formats = tuple(name for part in text.split(",") if (name := part.strip()))
    for name in formats:
        if name not in WARM_MODULES:
            raise ValueError(f"SHOAL_WARM_FORMATS: {name!r} is not known; there are {', '.join(WARM_MODULES)}")
    return formats


def warm(formats: Iterable[str]) -> tuple[str, ...]:
    """Imports what they need and returns those that are warm now. A library that cannot be imported is left out."""
    done = []
    for name in formats:
        try:
            for module in WARM_MODULES[name]:
                importlib.import_module(module)
        except Exception as error:
            # A library may raise anything when imported; its models' loads tell it to whom it concerns.
            log.warning("the format %s is not warm: %s", name, error)
        else:
            done.append(name)
    return tuple(done)


def extensions_of(formats: Iterable[str]) -> list[str]:
    """How the server states that formats are warm."""
    return [f"{_EXTENSION}{name}" for name in formats]


def stated_formats(extensions: Iterable[str]) -> frozenset[str]:
    """The warm formats among a server's extensions."""
    return frozenset(name.removeprefix(_EXTENSION) for name in extensions if name.startswith(_EXTENSION))
