"""The model servers that Shoal runs: each module of this folder is one row, its `SERVER`.

Read by the adapter, the controller, the embedded kubelet and packages, so rows are light: they name their driver and do
not import it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache


@dataclass(frozen=True, slots=True)
class Rule:
    """Memory of a loaded model: `fixed + factor * disk` bytes."""

    fixed: int
    factor: float

    def bytes(self, disk_bytes: int) -> int:
        """The prediction for a model of this size on disk."""
        return int(self.fixed + self.factor * disk_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One model format, as one server reads it."""

    implementation: str
    """What the server's settings call that which serves it: a class, a backend."""
    versions: tuple[str, ...] = ()
    """Of the format, in the runtime that comes with Shoal. None: it is not among that one's formats."""
    names: tuple[str, ...] = ()
    """File names the server looks for in a folder by itself."""
    suffixes: tuple[str, ...] = ()
    """How files of this format end."""
    other_suffixes: tuple[str, ...] = ()
    """The same, where such a file may as well be in another format."""
    folder: bool = False
    """Whether the server wants the folder rather than a file in it."""
    hub: bool = False
    """Whether the server can fetch a model from a hub by its name."""
    memory: Rule | None = None
    """What a model takes. None: as most do."""
    warm: tuple[str, ...] = ()
    """Modules that its models need, also those that pickles name, for a server in Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """One model server. Its module's name is the `serverType` in manifests, and the name of its container."""

    about: str
    """What the adapter expects to find, for its `--help`."""
    driver: str
    """`module:function` that makes the driver (`shoal_runtime.drivers.base.Driver`) of `AdapterSettings`."""
    image: str
    """Whose containers the embedded kubelet runs as `command`, whatever the registry and the tag."""
    command: tuple[str, ...]
    """Its program on this machine. `$(NAME)` is a variable of the container."""
    formats: Mapping[str, Format]
    runtime: str = ""
    """Name of the ServingRuntime that comes with Shoal. Empty: none does."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Of the container in that runtime; `{grpc}` and `{http}` are its ports."""
    pod_env: Mapping[str, str] = field(default_factory=dict)
    """Of the container in every pod, whatever the runtime says: the gateway calls the server at `$(POD_IP)`."""
    pod_defaults: Mapping[str, str] = field(default_factory=dict)
    """Of the container in every pod, unless the runtime says otherwise; `{threads}` are the processors it asks for."""
    metrics_variable: str = ""
    """Tells the server the port of its metrics where that is not the usual one."""
    settings_file: str = ""
    """By which a model's folder is known to be laid out for this server."""
    implementation_in: Callable[[bytes], object] = bytes.decode
    """The `Format.implementation` that a settings file names. Raises ValueError: it cannot be read."""


@cache
def servers() -> Mapping[str, ModelServer]:
    """All of them by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").SERVER for name in names}


def formats() -> Mapping[str, Format]:
    """All formats by name; of several servers that read one, as the first does."""
    found: dict[str, Format] = {}
    for server in servers().values():
        for name, known in server.formats.items():
            found.setdefault(name, known)
    return found
