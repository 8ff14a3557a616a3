"""What the adapter asks of a model server: the interface each driver implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a model server says of itself when it is ready. None: it leaves that to the adapter's settings."""

    version: str
    capacity_bytes: int | None = None
    loading_concurrency: int | None = None
    load_timeout_ms: int | None = None
    default_model_bytes: int | None = None
    method_id_paths: Mapping[str, Sequence[int]] | None = None
    allow_any_method: bool = False
    limit_model_concurrency: bool = False
    warm_formats: frozenset[str] = frozenset()
    """Model formats whose libraries the server holds already, so that its growth is the models' own."""
    drains: bool = False
    """Its unloads wait for the requests that are under way."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model to be loaded: its files on this pod's disk and how to read them."""

    model_id: str
    path: Path
    """A file or a folder."""
    disk_bytes: int
    format: str
    """Lower-case name of the model format, such as `sklearn`."""
    model_type: str = ""
    """`LoadModelRequest.modelType` as it came."""
    model_key: str = field(default="", repr=False)
    """`LoadModelRequest.modelKey` as it came. May hold secrets."""
    schema_path: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """The `shoal.*` storage parameters, without the prefix."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the server says of a model it has loaded. Zero: nothing."""

    size_bytes: int = 0
    max_concurrency: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a server holds: models that answer, and others that are there but do not (half loaded ones)."""

    ready: frozenset[str] = frozenset()
    other: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Loss:
    """How a server was lost."""

    why: str
    silent_seconds: float | None = None
    """It hangs: it can be reached and has answered nothing for so long. None: it is gone."""


class Driver(Protocol):
    """One model server. Calls on the same model never overlap; the adapter sees to that.

    Every method may raise `NotReadyError` when the server cannot be reached, `ServerError` when it refuses.
    """

    method_id_paths: Mapping[str, Sequence[int]]
    """Key: `package.Service/Method`; value: field numbers leading to the model id."""
    weighed: bool
    """Whether models are weighed by the growth of the server's process."""
    notes_folder: Path | None
    """Where the server's processes note what they are busy with, see `underway`. None: they do not."""

    async def ready(self) -> ServerInfo:
        """Returns once asked successfully; whatever is loaded stays loaded if the server can say what that is."""

    async def lost(self, hangs: Callable[[float], bool]) -> Loss:
        """Waits until the server is gone, is another process than before, or hangs. Returns what happened.

        `hangs` says whether a server that has been silent for so many seconds does.
        """

    async def answers(self) -> bool:
        """Whether the server answers now; asks it next to nothing."""

    async def load(self, artifact: Artifact) -> Loaded:
        """Makes the model answer requests. Loading it again replaces it.

        Raises:
            InvalidModelError: the files or settings cannot be loaded by any server of this kind.
        """

    async def unload(self, model_id: str, seconds: float) -> None:
        """Makes sure that the model is not loaded, and removes what `load` wrote to disk.

        Raises:
            SilentError: the server did not confirm that in this time.
        """

    async def held(self) -> Held | None:
        """What the server holds. None: it cannot say."""

    async def model_bytes(self, model_id: str) -> int:
        """What the server measures for a loaded model. 0: it cannot say."""

    def tidy(self, keep: frozenset[str]) -> None:
        """Removes from disk what this driver wrote for models other than `keep`."""

    def listening_port(self) -> int | None:
        """A TCP port the server's process listens on, to find the process by. None: there is none."""

    async def close(self) -> None:
        """Closes connections."""
