"""Long random searches (`make soak`): schedules, crashes at random moments, and everything Hypothesis drives.

One search after another is run with a seed of its own, those that had the least time first, until the time is over. A
failure is shown with the command that repeats it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parents[1]
SCHEDULES: Final = "tests/core/test_schedules.py"
SHARES: Final = {SCHEDULES: 10.0}
"""How much more time than others a search gets: there is no end of orders in which everything can happen."""
SCHEDULES_AT_ONCE: Final = 300
"""In one run, so that it ends within a minute or so: what is under way at the end is given up."""
_STATISTICS: Final = re.compile(r"^(tests/\S+?)(?:\[.*)?:$|^ +- (\d+) passing(?: examples)?, ", re.MULTILINE)


@dataclass
class Search:
    """The random tests of a folder, or of a file; and what became of them."""

    where: str
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0
    rounds: int = 0
    examples: Counter[str] = field(default_factory=Counter)
    """By file: how many examples passed."""
    failed: bool = False

    @property
    def lag(self) -> float:
        """Who has least is next."""
        return self.seconds / SHARES.get(self.where, 1.0)


@dataclass
class Round:
    """One run of a search."""

    search: Search
    seed: int
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes]
    started: float

    @property
    def again(self) -> str:
        """The command that repeats it."""
        return (
            shlex.join(f"{name}={value}" for name, value in _settings(self.seed).items())
            + " "
            + shlex.join(self.command)
        )


def searches(places: list[str], servers: bool) -> list[Search]:
    """What there is to search, by asking pytest."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", _marks(servers), *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    files = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    if done.returncode not in (0, 5):
        raise SystemExit(f"make soak: the tests cannot be collected:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    folders: dict[str, list[str]] = {}
    for file in sorted(files - SHARES.keys()):
        folders.setdefault("/".join(file.split("/")[:2]), []).append(file)
    alone = [Search(file) for file in SHARES if file in files]
    return alone + [Search(folder, tuple(found)) for folder, found in folders.items()]


def begin(search: Search, seed: int, servers: bool, folder: Path) -> Round:
    """Start a run."""
    places = search.left_out or (search.where,)
    command = [".venv/bin/python", "-m", "pytest", "-q", "-m", _marks(servers), f"--hypothesis-seed={seed}", *places]
    command[0] = os.path.relpath(sys.executable, ROOT)
    log = folder / f"{seed}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--hypothesis-show-statistics", "-p", "no:cacheprovider"],
            cwd=ROOT,
            env={**_without_ci(), **_settings(seed)},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_be_nice,
        )
    return Round(search, seed, command, log, process, time.monotonic())


def finish(one: Round) -> None:
    """Note what a run that ended found, and tell of it."""
    search, text = one.search, one.log.read_text(errors="replace")
    seconds = time.monotonic() - one.started
    found = passed(text)
    search.seconds += seconds
    search.rounds += 1
    search.examples.update(found)
    search.failed = one.process.returncode != 0
    how = "FAILED" if search.failed else "ok"
    print(f"{search.where}: seed {one.seed}, {found.total()} examples in {seconds:.0f} s: {how}", flush=True)
    if search.failed:
        print(f"{text[-6000:]}\nto repeat it:\n  {one.again}\n", flush=True)


def passed(text: str) -> Counter[str]:
    """How many examples passed in each file, by Hypothesis' statistics."""
    found: Counter[str] = Counter()
    file = ""
    for test, count in _STATISTICS.findall(text):
        if test:
            file = test.partition("::")[0]
        else:
            found[file] += int(count)
    return found


def show(all_of: list[Search]) -> None:
    """The table of what was searched how often."""
    print(f"\n{'search':44}{'rounds':>8}{'seconds':>9}{'examples':>10}  result")
    for search in sorted(all_of, key=lambda one: -one.seconds):
        result = "FAILED" if search.failed else "ok" if search.rounds else "not reached"
        print(f"{search.where:44}{search.rounds:8}{search.seconds:9.0f}{search.examples.total():10}  {result}")
        for file, examples in sorted(search.examples.items()):
            if file != search.where:
                print(f"  {file:42}{'':17}{examples:10}")


def _marks(servers: bool) -> str:
    return "search" if servers else "search and not server"


def _settings(seed: int) -> dict[str, str]:
    return {"SHOAL_SEED": str(seed), "SHOAL_SCHEDULES": str(SCHEDULES_AT_ONCE)}


def _without_ci() -> dict[str, str]:
    """Hypothesis tries the same each time where it takes the machine for one of CI."""
    return {name: value for name, value in os.environ.items() if name != "CI"}


def _be_nice() -> None:
    """Leave the machine to others, and take Ctrl-C also where this runs in the background."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> int:
    """Run as `make soak` says."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.split("\n")[0])
    parser.add_argument("places", nargs="*", metavar="PLACE", help="such as tests/core; everything without")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--seed", type=int, help="the first seed; those that follow count up from it")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="how many at once (processors)")
    parser.add_argument("--servers", action="store_true", help="also searches that start servers")
    options = parser.parse_args()
    seed = random.randrange(2**31) if options.seed is None else options.seed
    found = searches(options.places, options.servers)
    if not found:
        raise SystemExit(f"make soak: nothing is tried at random in {' '.join(options.places) or 'tests/'}")
    print(f"{len(found)} searches for {options.minutes:g} minutes, from seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        _search(found, seed, time.monotonic() + 60 * options.minutes, options, Path(folder))
    show(found)
    return 1 if any(search.failed for search in found) or not any(search.rounds for search in found) else 0


def _search(found: list[Search], seed: int, deadline: float, options: argparse.Namespace, folder: Path) -> None:
    """Run one search after another. What failed is not searched on, and what is under way at the end is given up."""
    under_way: list[Round] = []
    try:
        while time.monotonic() < deadline:
            busy = [one.search for one in under_way]
            idle = [search for search in found if search not in busy and not search.failed]
            if idle and len(under_way) < options.children:
                under_way.append(begin(min(idle, key=lambda one: one.lag), seed, options.servers, folder))
                seed += 1
                continue
            if not under_way:
                return
            ended = [one for one in under_way if one.process.poll() is not None]
            for one in ended:
                under_way.remove(one)
                finish(one)
            if not ended:
                time.sleep(0.2)
    finally:
        for one in under_way:
            one.process.send_signal(signal.SIGINT)
        for one in under_way:
            one.process.wait()


if __name__ == "__main__":
    sys.exit(main())
