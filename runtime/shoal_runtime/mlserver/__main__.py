"""`python -m shoal_runtime.mlserver start FOLDER`: MLServer as a good citizen of a shared pod.

The same server, settings and answers as `mlserver start FOLDER`, with these differences, each unless the environment
says otherwise: no parallel workers (they crash with the newest uvloop and hold every model several times), a repository
that reads one model's settings at a time, loads off the event loop, unloads that wait for requests under way and give
memory back, readiness that does not flap while models load, one computing thread per request instead of one per core,
libraries imported before the first model needs them, the protocol's binary tensors over REST, and errors that name
what is wrong with a request.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from shoal_runtime.mlserver.warm import WARM_MODULES

DEFAULTS = {
    "MLSERVER_PARALLEL_WORKERS": "0",
    "MLSERVER_MODEL_REPOSITORY_IMPLEMENTATION": "shoal_runtime.mlserver.repository.DirectRepository",
    "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
    "MLSERVER_DEBUG": "false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc keeps an arena per thread; few of them give memory back sooner.
    "MALLOC_ARENA_MAX": "2",
}
"""Set where the environment sets nothing."""

SWITCH_SECONDS = 0.001
"""How long a thread that loads a model may keep the interpreter from the event loop (Python's default: 5 ms)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m shoal_runtime.mlserver",
        description="Runs MLServer fit for sharing: see `pydoc shoal_runtime.mlserver.__main__`.",
        epilog="Settings are MLServer's own, as environment variables MLSERVER_* or settings.json in the folder. "
        "SHOAL_LOAD_THREADS: models read from disk at once (2). SHOAL_DRAIN_SECONDS: longest an unload waits for "
        "requests under way (30). SHOAL_WARM_FORMATS: model formats whose libraries are imported before the server "
        "answers, separated by commas (sklearn); known are " + ", ".join(WARM_MODULES) + ".",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="serve the models of a folder")
    start.add_argument("folder", help="one folder per model, each with a model-settings.json; made if missing")
    folder = Path(parser.parse_args(arguments).folder)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    folder.mkdir(parents=True, exist_ok=True)
    sys.setswitchinterval(SWITCH_SECONDS)
    # The stack of a crash in native code goes to the log.
    faulthandler.enable()
    _serve(folder)
    return 0


def _serve(folder: Path) -> None:
    # MLServer and the libraries under it read the environment when imported.
    from mlserver.cli.serve import load_settings
    from mlserver.logging import configure_logger
    from mlserver.utils import install_uvloop_event_loop

    from shoal_runtime.mlserver.server import SharedServer

    async def run() -> None:
        settings, models = await load_settings(str(folder))
        await SharedServer(settings, folder.absolute().parent).start(models)

    configure_logger()
    install_uvloop_event_loop()
    asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
