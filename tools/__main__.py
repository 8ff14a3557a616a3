"""`python -m tools [NAME ...]`: fetch the tools that are missing; without names, all that tests need."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tools.known import TOOLS, fixes, missing
from tools.places import FETCHED, SCRATCH
from tools.running import Unavailable


def main(arguments: list[str] | None = None) -> int:
    """Fetch, and say what could not be had. That is no failure: tests that need it are skipped, or fail in CI."""
    parser = argparse.ArgumentParser(prog="python -m tools", description="Fetch the tools that tests need.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TOOLS)}; default: all")
    names = parser.parse_args(arguments).names or list(TOOLS)
    if unknown := [name for name in names if name not in TOOLS]:
        parser.error(f"no tool named {', '.join(unknown)}; there are {', '.join(TOOLS)}")
    if not missing(names):
        return 0
    with _alone():
        failed = fetch(missing(names))
    for name, reason in failed.items():
        print(f"tools: without {name}: {reason}")
    for line in fixes(failed):
        print(f"tools: to have what is missing: {line}")
    return 0


def fetch(wanted: list[str]) -> dict[str, str]:
    """Fetch tools, one after the other: those that cannot be had, with the reason."""
    failed = {}
    for name in wanted:
        try:
            TOOLS[name].fetch(name)
        except Unavailable as reason:
            failed[name] = str(reason)
        except OSError as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return failed


@contextmanager
def _alone() -> Iterator[None]:
    """Let only one at a time fetch into this checkout, and remove the downloads at the end."""
    FETCHED.mkdir(exist_ok=True)
    with (FETCHED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        SCRATCH.mkdir(exist_ok=True)
        try:
            yield
        finally:
            shutil.rmtree(SCRATCH, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
