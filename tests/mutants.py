"""Mutation testing (`make mutants`): are there wrong programs that no test notices?

mutmut makes the mutants and runs, for each, the tests that reach what it changed. This chooses which (a random sample,
as many as fit the time), on a copy of the tree, and compares who survives with the list in `docs/testing.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

ROOT = Path(__file__).parents[1]
ACCEPTED = ROOT / "docs" / "testing.md"
SOURCES = ("platform/shoal", "runtime/shoal_runtime", "protos/shoal_protos")
BESIDE = ("tests", "tools")
"""What the tests themselves need."""
MUTATED = ("core/*.py", "core/policies/*.py", "core/rollout/*.py", "package/gate.py", "package/evidence.py")
TESTS = ("tests/core", "tests/package/test_gate.py", "tests/package/test_evidence.py")
LEFT_OUT = ("tests/core/test_schedules.py", "tests/core/test_scale.py")
"""Random schedules find most mutants, but not why; each behaviour shall have a test of its own. And what takes long."""
UNCHANGED = ("src/shoal/core/invariants.py",)
"""It checks the others, in tests and on demand."""
UNMUTATED = (r"\bstate\.decide\(",)
"""The record of decisions is for people to read."""
SETTINGS = {
    "source_paths": ["src"],
    "also_copy": list(BESIDE),
    "only_mutate": [f"src/shoal/{pattern}" for pattern in MUTATED],
    "do_not_mutate": list(UNCHANGED),
    "do_not_mutate_patterns": list(UNMUTATED),
    "pytest_add_cli_args": ["-p", "no:cacheprovider", "--hypothesis-profile=ci"],
    "pytest_add_cli_args_test_selection": [
        *("-m", "not server and not slow"),
        *(f"--ignore={path}" for path in LEFT_OUT),
        *TESTS,
    ],
    "timeout_multiplier": 2.0,
    "timeout_constant": 5.0,
    "track_dependencies": False,
    "use_git_change_detection": False,
}
BATCH = 100
SAMPLE = 400
"""How many mutants are tried unless told otherwise: a quarter of an hour on two processors.

They are chosen by what they change and so always the same: all who survive can be listed. A line that changes has new
ones.
"""
STATS = Path("mutants/mutmut-stats.json")
WORDS = {1: "killed", 3: "killed", 0: "survived", 5: "survived", 33: "survived", 36: "timed out", -24: "timed out"}
"""What mutmut's exit codes mean; 5 and 33: no test reaches it. What died otherwise was noticed, too."""


@dataclass(frozen=True)
class Change:
    """One mutant by what it changes, so that it is known again when lines move."""

    where: str
    """Such as `core/timers.py Timers.set`."""
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.where}\n- {self.before}\n+ {self.after}"

    @property
    def idle(self) -> bool:
        """Whether nothing can notice it, or only who reads.

        mutmut writes strings in capitals or puts XX around them: such as hold a space are for people. Ordered sets are
        kept as dictionaries, whose values nobody reads. And None is as false as False.
        """
        in_words = self.before.lower() == self.after.lower().replace("xx", "")
        return (
            (in_words and any(" " in part for part in self.before.split('"')[1::2]))
            or ("] = None" in self.before and self.after == self.before.replace("] = None", '] = ""'))
            or (" = False" in self.before and self.after == self.before.replace(" = False", " = None"))
        )


class Copy:
    """A copy of the tree that mutmut works on."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self._sources: dict[Path, dict[str, str]] = {}
        for source in SOURCES:
            shutil.copytree(ROOT / source, at / "src" / Path(source).name)
        for folder in BESIDE:
            shutil.copytree(ROOT / folder, at / folder)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
        sections = {
            "tool.pytest.ini_options": {**project, "addopts": "--import-mode=importlib"},
            "tool.mutmut": SETTINGS,
        }
        lines = [
            line
            for section, options in sections.items()
            for line in (f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in options.items()))
        ]
        (at / "pyproject.toml").write_text("\n".join(lines))

    def prepare(self, children: int) -> None:
        """Make all mutants, and note which test reaches what: mutmut does so before it looks for those it is to run."""
        done = self._mutmut("run", "--max-children", str(children), "none-of-them")
        done.wait()
        if not (self.at / STATS).exists():
            raise SystemExit(f"make mutants: no test could be run:\n{self._complaint()}")

    def run(self, names: Iterable[str], deadline: float, children: int) -> int:
        """Try these mutants, until the time is over: how many were tried by now, in all."""
        before = sum(code is not None for _, _, code in self.results())
        trying = self._mutmut("run", "--max-children", str(children), *names)
        try:
            trying.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            trying.send_signal(signal.SIGINT)
            trying.wait()
        except BaseException:
            trying.send_signal(signal.SIGINT)
            raise
        tried = sum(code is not None for _, _, code in self.results())
        if trying.returncode and tried == before:
            print(f"none of {BATCH} mutants could be tried: {self._complaint()}")
        return tried

    def _mutmut(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mutmut", *arguments]
        with (self.at / "log").open("wb") as log:
            return subprocess.Popen(command, cwd=self.at, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_be_nice)

    def _complaint(self) -> str:
        """What mutmut and pytest said last, without the many names of tests."""
        log = (self.at / "log").read_text().replace("\r", "\n")
        return "\n".join(line[:300] for line in log.splitlines()[-40:])

    def results(self) -> Iterator[tuple[Path, str, int | None]]:
        """Every mutant: its file, its name, and its exit code once it was tried."""
        for meta in sorted((self.at / "mutants").rglob("*.py.meta")):
            path = meta.relative_to(self.at / "mutants").with_suffix("")
            for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
                yield path, name, code

    def where(self, path: Path, name: str) -> str:
        """The function that a mutant is of."""
        from mutmut.utils.format_utils import orig_function_and_class_names_from_key

        function, owner = orig_function_and_class_names_from_key(name)
        return f"{path.relative_to('src/shoal')} {f'{owner}.' if owner else ''}{function}"

    def change(self, path: Path, name: str) -> Change:
        """What a mutant changes."""
        from mutmut.mutation.diff_apply import generated_function_names

        sources = self._sources.get(path) or self._sources.setdefault(path, self._read(path))
        where = self.where(path, name)
        function = where.rpartition(" ")[2].rpartition(".")[2]
        one, other = (
            sources[generated].replace(generated, function).split("\n") for generated in generated_function_names(name)
        )
        lines = list(difflib.unified_diff(one, other, n=0, lineterm=""))[2:]
        before, after = (" ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
        return Change(where, before.strip(), after.strip())

    def _read(self, path: Path) -> dict[str, str]:
        """The source of every function that mutmut wrote into a file, mutants and originals, by its name there."""
        from mutmut.mutation.data import MutantLineSpans

        with contextlib.chdir(self.at):
            index = MutantLineSpans.load(path)
            if index is None:
                raise SystemExit(f"make mutants: mutmut left no index of {path}")
            names = list(index.span_by_function_name)
            return dict(zip(names, index.read_function_sources(names), strict=True))


def _be_nice() -> None:
    """Leave the machine to others, and take Ctrl-C also where this runs in the background."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def accepted(text: str) -> dict[Change, str]:
    """The survivors that are listed in `docs/testing.md` in blocks marked `mutants`, with the reason of each."""
    found: dict[Change, str] = {}
    for block in text.split("```mutants\n")[1:]:
        for entry in block.split("```")[0].strip().split("\n\n"):
            where, before, after, *reason = entry.split("\n")
            if not (before.startswith("- ") and after.startswith("+ ") and reason):
                raise SystemExit(
                    f"make mutants: docs/testing.md: an entry is where, - before, + after, reason:\n{entry}"
                )
            found[Change(where, before[2:], after[2:])] = " ".join(line.strip() for line in reason)
    return found


def sample(changes: Mapping[str, Change], seed: int | None = None) -> list[str]:
    """The mutants that can be noticed, in the order in which to try them: by what they change and the seed alone."""
    noticeable = [name for name, change in changes.items() if not change.idle]
    return sorted(
        noticeable, key=lambda name: blake2b(f"{'' if seed is None else seed}{changes[name]}".encode()).digest()
    )


def show(tried: dict[str, Counter[str]], all_of: Counter[str]) -> None:
    """The table of results."""
    print(f"{'module':32}{'mutants':>9}{'tried':>7}{'killed':>8}{'survived':>10}{'timed out':>11}")
    total = sum(tried.values(), Counter[str]())
    for module, count in (*sorted(all_of.items()), ("all", all_of.total())):
        of = total if module == "all" else tried.get(module, Counter())
        counts = f"{of.total():7}{of['killed']:8}{of['survived']:10}{of['timed out']:11}"
        print(f"{module:32}{count:9}{counts}")


def main() -> int:
    """Run as `make mutants` says."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as core/loading.py; all without")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to try mutants at most (30)")
    parser.add_argument("--count", type=int, default=SAMPLE, help=f"how many mutants to try at most ({SAMPLE})")
    parser.add_argument("--all", action="store_true", help="try every one, however long that takes")
    parser.add_argument(
        "--children", type=int, default=os.cpu_count() or 1, help="how many to try at once (processors)"
    )
    parser.add_argument("--seed", type=int, help="another sample; without it, the sample is the same each time")
    options = parser.parse_args()
    listed = accepted(ACCEPTED.read_text())
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copy = Copy(Path(directory))
        print("making mutants, and seeing which test reaches what...", flush=True)
        copy.prepare(options.children)
        return _try(copy, listed, options)


def _try(copy: Copy, listed: dict[Change, str], options: argparse.Namespace) -> int:
    wanted = {f"src/shoal/{module}" for module in options.modules}
    changes = {name: copy.change(path, name) for path, name, _ in copy.results() if not wanted or str(path) in wanted}
    if not changes:
        raise SystemExit(f"make mutants: no mutants of {', '.join(options.modules)}; write it like core/loading.py")
    chosen = sample(changes, options.seed)
    deadline = float("inf") if options.all else time.monotonic() + 60 * options.minutes
    started = time.monotonic()
    wished = chosen if options.all else chosen[: options.count]
    left, tried = iter(wished), 0
    for first in left:
        if time.monotonic() >= deadline:
            break
        tried = copy.run([first, *itertools.islice(left, BATCH - 1)], deadline, options.children)
        print(f"{time.monotonic() - started:6.0f} s: {tried} mutants tried", flush=True)
    code = report(copy, listed, "the sample of every time" if options.seed is None else f"seed {options.seed}")
    if tried < len(wished):
        print(f"\nonly {tried} of {len(wished)} mutants could be tried; give it more time with --minutes")
        return 1
    return code


def report(copy: Copy, listed: dict[Change, str], which: str) -> int:
    """Show what became of the mutants; 1 if something is to be done about them."""
    tried: dict[str, Counter[str]] = {}
    all_of: Counter[str] = Counter()
    survivors: dict[Change, str] = {}
    killed: set[Change] = set()
    seen: set[Change] = set()
    for path, name, code in copy.results():
        module = str(path.relative_to("src/shoal"))
        all_of[module] += 1
        change = copy.change(path, name)
        seen.add(change)
        if code is None:
            continue
        word = WORDS.get(code, "killed")
        tried.setdefault(module, Counter())[word] += 1
        if word == "survived":
            survivors[change] = "no test reaches it" if code in (5, 33) else ""
        elif word == "killed":
            killed.add(change)
    show(tried, all_of)
    print(f"{which}; {len(survivors.keys() & listed.keys())} survivors are listed in docs/testing.md")
    new = survivors.keys() - listed.keys()
    gone = listed.keys() - seen
    for title, changes in (
        ("survived and is not listed in docs/testing.md: write a test, or list it with the reason", new),
        ("is listed in docs/testing.md, but there is no such mutant any more", gone),
        ("is listed in docs/testing.md, but a test noticed it", (killed & listed.keys()) - survivors.keys()),
    ):
        for change in sorted(changes, key=str):
            print(f"\n{title}:\n{change} {survivors.get(change, '')}")
    return 1 if new or gone or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
