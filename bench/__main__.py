"""`python -m bench [NAME ...] [--quick] [--check]`: measure, print one table, write it to bench/results/."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import pkgutil
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

import grpc.aio
from rich.console import Console
from rich.table import Table

import bench
from bench.rows import MEASUREMENTS, NEEDED, Row
from tools.known import fixes, missing
from tools.places import put_on_path

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    for module in pkgutil.iter_modules(bench.__path__):
        if not module.name.startswith("__"):
            importlib.import_module(f"bench.{module.name}")
    options = _options()
    names = options.names or sorted(MEASUREMENTS)
    if absent := missing(tool for name in names for tool in NEEDED[name]):
        print(f"{', '.join(absent)}: missing; {'; '.join(fixes(absent))}")
        return 2
    put_on_path()
    grpc.aio.init_grpc_aio()  # kept: its last object, when collected, joins a thread that may wait for the collector's
    rows = asyncio.run(_measure(names, options.quick))
    Console(width=None if sys.stdout.isatty() else 140).print(_table(rows))
    print(f"written to {_write(rows, options.quick)}")
    broken = [row for row in rows if row.broken]
    for row in broken:
        print(f"does not hold: {row.group}, {row.name}: {row.figure:.4g} {row.unit}, must be {row.limit}")
    return 1 if broken and options.check else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure and print one table.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(sorted(MEASUREMENTS))}; default: all")
    parser.add_argument("--quick", action="store_true", help="shorter and less exact, below a minute")
    parser.add_argument("--check", action="store_true", help="fail if a figure that must hold does not")
    options = parser.parse_args()
    unknown = set(options.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"no measurement named {', '.join(sorted(unknown))}; there are {', '.join(sorted(MEASUREMENTS))}")
    return options


async def _measure(names: list[str], quick: bool) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        rows += await MEASUREMENTS[name](quick)
    return rows


def _table(rows: list[Row]) -> Table:
    table = Table(title="Shoal benchmarks")
    for column in ("what", "figure", "", "least-most", "beside, in the same run", "must be"):
        table.add_column(column, justify="right" if column == "figure" else "left")
    for index, row in enumerate(rows):
        style = "red" if row.broken else None
        limit = f"{row.limit} {'✗' if row.broken else '✓'}" if row.limit else ""
        last = index + 1 == len(rows) or rows[index + 1].group != row.group
        table.add_row(
            f"{row.group}: {row.name}", _short(row.figure), row.unit,
            "-".join(map(_short, row.spread or ())), row.beside, limit, style=style, end_section=last,
        )  # fmt: skip
    return table


def _short(figure: float) -> str:
    return f"{figure:,.4g}" if figure < 1000 else f"{figure:,.0f}"


def _write(rows: list[Row], quick: bool) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()}
    path.write_text(json.dumps({"quick": quick, "machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
