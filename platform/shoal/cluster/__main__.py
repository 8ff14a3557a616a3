"""`python -m shoal.cluster --state-dir D`: the supervisor as a process of its own, as `shoal up --detach` starts it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from shoal.cluster.errors import ClusterError
from shoal.cluster.settings import ClusterSettings
from shoal.cluster.supervisor import Observer, Supervisor


def run_supervisor(settings: ClusterSettings, observe: Observer | None = None) -> None:
    """Run an instance in this process until SIGINT or SIGTERM.

    Raises:
        ClusterError: it cannot start.
    """
    asyncio.run(_run(settings, observe))


async def _run(settings: ClusterSettings, observe: Observer | None) -> None:
    work = asyncio.create_task(Supervisor(settings, observe).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Once: a second signal while stopping changes nothing, every step of stopping is bounded.
        loop.add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


def main(arguments: list[str] | None = None) -> int:
    """Run with options as JSON, which `shoal up` writes."""
    parser = argparse.ArgumentParser(prog="python -m shoal.cluster", description=__doc__)
    parser.add_argument("--settings", required=True, type=Path, help="file with the options of the instance, as JSON")
    settings = ClusterSettings.model_validate_json(parser.parse_args(arguments).settings.read_text())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        run_supervisor(settings)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
