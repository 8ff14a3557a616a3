"""How model servers ended, as the kubelet tells it in a pod's status: the cause, and the line that matters."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from typing import Any, Final

from shoal.core.suspicion import Cause
from shoal.core.types import PodId
from shoal.mesh.api import MeshApi
from shoal.resources.lastwords import telling_line

MAX_WORDS: Final = 300
_SIGNALS: Final = 128
"""Exit codes above this are 128 and the number of the signal."""
_FROM_OUTSIDE: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that no program sends itself by accident. A kill for want of memory has a reason of its own."""
_OUT_OF_MEMORY: Final = "OOMKilled"
_HELPERS: Final = re.compile(r"(-adapter|^puller)$")
"""Containers beside the model server."""


class Endings:
    """Tells the mesh of each end of a model server once."""

    def __init__(self, mesh: MeshApi) -> None:
        self._mesh = mesh
        self._seen: dict[str, dict[str, str]] = {}

    def changed(self, name: str, pod: Mapping[str, Any]) -> None:
        """A pod's status is as given. What had ended before the pod was first seen is history."""
        found = dict(_terminations(pod))
        seen = self._seen.get(name)
        self._seen[name] = {container: _mark(ending) for container, ending in found.items()}
        for container, ending in found.items():
            if seen is not None and seen.get(container) != _mark(ending):
                self._mesh.server_exited(PodId(name), cause_of(ending), words_of(ending))

    def gone(self, name: str) -> None:
        """A pod is no more."""
        self._seen.pop(name, None)


def cause_of(terminated: Mapping[str, Any]) -> Cause:
    """Whether a container ended by itself, or somebody ended it."""
    code = int(terminated.get("exitCode") or 0)
    if terminated.get("reason") != _OUT_OF_MEMORY and code - _SIGNALS in _FROM_OUTSIDE:
        return Cause.KILLED
    return Cause.CRASHED


def words_of(terminated: Mapping[str, Any]) -> str:
    """How a container ended in words: exit code, signal, and the line of its log that tells why."""
    code = int(terminated.get("exitCode") or 0)
    if terminated.get("reason") == _OUT_OF_MEMORY:
        how = "it was killed because it took more memory than it may"
    elif code > _SIGNALS and code - _SIGNALS in {int(number) for number in signal.Signals}:
        how = f"exit code {code} ({signal.Signals(code - _SIGNALS).name})"
    else:
        how = f"exit code {code}"
    line = telling_line(str(terminated.get("message") or ""))
    return f"{how}: {line}"[:MAX_WORDS] if line else how


def _terminations(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if _HELPERS.search(status["name"]):
            continue
        for state in (status.get("state"), status.get("lastState")):
            if ending := (state or {}).get("terminated"):
                yield status["name"], ending
                break


def _mark(terminated: Mapping[str, Any]) -> str:
    return f"{terminated.get('startedAt')} {terminated.get('finishedAt')} {terminated.get('exitCode')}"
