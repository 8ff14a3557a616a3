"""What each minute of a run of the tests pays for: `python tests/minutes.py junit.xml` prints the table of a run.

A run writes that file with `--junitxml junit.xml`. With `--write` the table in `docs/testing.md` is made from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- minutes -->", "<!-- end of minutes -->"
"""Between them the page has the table."""
PROVES = {
    "airflow": "The Airflow operators roll out on a real mesh.",
    "apiserver": "`kubectl` and the official client take the embedded API for Kubernetes; kills lose no write.",
    "bench": "The benchmarks measure what they say.",
    "chaos": "Nothing the mesh acknowledged is lost, whenever it is killed.",
    "cli": "Every verb of `shoal`, on a running cluster, on a full disk, and when it is ended and started again.",
    "cli_runtime": "A custom runtime is written and tried by the commands the guide names.",
    "client": "The Python client.",
    "cluster": "Processes of the embedded cluster are started, watched, ended and never left over.",
    "controller": "Declarations become Deployments and statuses, and statuses tell the truth.",
    "core": "The decisions, in virtual time: each behaviour by name, and random schedules of everything at once.",
    "dagster": "Assets, gates, sensors and schedules; rollouts from Dagster on a real mesh.",
    "dagster_ui": "What a person does in Dagster's UI, with a browser; killed runs and daemons.",
    "docs": "Links, commands and examples of the documentation are right.",
    "e2e": "Everything together under traffic: no request fails by evictions, updates, rollouts or kills.",
    "gateway": "Routes, weights, shields and counts in a real Envoy; the Lua scripts byte by byte.",
    "mesh": "The mesh's own protocols: every status code, rollouts through a restart at every write.",
    "oip": "Tensors and answers are read and written the same everywhere.",
    "package": "Packages are whole or absent; nothing tampered with passes; no pickle hides what it calls.",
    "registry": "Every backend keeps the contract, also when it is killed while it writes.",
    "resources": "Manifests are accepted or explained, whatever is in them.",
    "runtime": "The adapter on a real MLServer: loads, sizes, hangs, deaths, and whose fault they were.",
    "runtime_storage": "Files come whole from S3, HTTP and claims, or the error says why not.",
    "tools": "Missing tools are named, with what brings them.",
    "": "The repository itself: wheels, generated code, forbidden names.",
}
"""What the tests of a folder prove; those beside the folders come last."""


@dataclass(frozen=True)
class Folder:
    """What its tests took."""

    name: str
    tests: int
    skipped: int
    seconds: float


def folders(report: Path) -> list[Folder]:
    """The folders of a run, the longest first."""
    found: dict[str, list[tuple[bool, float]]] = {}
    for case in ET.parse(report).iter("testcase"):
        found.setdefault(folder(case.attrib["classname"]), []).append(
            (case.find("skipped") is not None, float(case.attrib["time"]))
        )
    made = (
        Folder(name, len(cases), sum(skipped for skipped, _ in cases), sum(seconds for _, seconds in cases))
        for name, cases in found.items()
    )
    return sorted(made, key=lambda one: -one.seconds)


def folder(classname: str) -> str:
    """The folder below `tests/` of a test by its class or module, such as `tests.core.test_core.TestCore`."""
    parts = classname.split(".")
    following = parts[1:] if parts[0] == "tests" else parts
    return "" if following[0].startswith("test_") else following[0]


def table(found: Iterable[Folder]) -> str:
    """The table as the page has it."""
    rows = list(found)
    total = sum(row.seconds for row in rows)
    lines = ["| folder | seconds | share | tests | what it proves |", "|---|---|---|---|---|"]
    lines += [
        f"| {f'`tests/{row.name}/`' if row.name else '`tests/`'} | {row.seconds:.0f} | {row.seconds / total:.0%} "
        f"| {_count(row)} | {PROVES[row.name]} |"
        for row in rows
    ]
    tests = sum(row.tests for row in rows)
    return "\n".join([*lines, f"| all | {total:.0f} | | {tests} | |"])


def _count(row: Folder) -> str:
    return f"{row.tests} ({row.skipped} skipped)" if row.skipped else str(row.tests)


def written(page: str, new: str) -> str:
    """The page with another table."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"minutes: {PAGE} has no place for the table, between {BEGIN} and {END}")
    return f"{before}{begin}\n{new}\n{end}{after}"


def main() -> int:
    """Run as the first line says."""
    parser = argparse.ArgumentParser(prog="python tests/minutes.py", description=__doc__.split("\n")[0])
    parser.add_argument("report", type=Path, help="what `pytest --junitxml` wrote")
    parser.add_argument("--write", action="store_true", help="put the table into docs/testing.md, too")
    options = parser.parse_args()
    made = table(folders(options.report))
    print(made)
    if options.write:
        PAGE.write_text(written(PAGE.read_text(), made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
