"""What an instance needs of this Python's environment before its pods can run, so that `shoal up` says it first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

from shoal.cluster.errors import ClusterError

MODEL_SERVER = "mlserver"
"""The package that the built-in runtimes run; pods are processes of this Python."""
_NEWEST = (3, 12)
"""The newest Python that MLServer 1.7 installs on."""


def require_model_server(
    version: tuple[int, int] = sys.version_info[:2], find: Callable[[str], object | None] = find_spec
) -> None:
    """Check that the built-in runtimes can run.

    Raises:
        ClusterError: they cannot; the message says what to install.
    """
    if find(MODEL_SERVER) is not None:
        return
    if version > _NEWEST:
        here, newest = (".".join(map(str, numbers)) for numbers in (version, _NEWEST))
        raise ClusterError(
            f"the built-in runtimes need MLServer, which supports Python up to {newest}, and this is Python {here}: "
            f"install Shoal with an older one (in its repository: `make clean setup PYTHON=python{newest}`)"
        )
    raise ClusterError(
        f"the built-in runtimes need MLServer, which is not installed for {sys.executable}: "
        "install Shoal with its extra `mlserver` (in its repository: `make setup`)"
    )
