"""The demo's last part: Dagster retrains the digits and rolls them out under live traffic, to three different ends."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from traffic import Client

from dagster_shoal.example import digits

RATE = 150.0
"""The most requests a second that are offered."""
PIPELINE = Path(__file__).with_name("pipeline.py")
STORIES = ("first version", "better one", "worse one", "one that errs on live traffic")
SHORT = ("first", "better", "worse", "brittle")


async def roll_out(console: Console, state_dir: Path, address: str, rate: float) -> tuple[list[dict[str, Any]], Client]:
    """Four runs of the job `retrain`; what became of each, and the traffic of `rate` requests/s meanwhile."""
    rows = digits.live()
    any_digit = [(digit,) * len(rows) for digit in range(10)]
    client = Client(address, {"digits": any_digit}, rows, digits.INPUT)
    console.print("\nDagster trains a model of digits, checks it, publishes it and rolls it out (job `retrain`):")
    with (state_dir / "pipeline.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(PIPELINE), str(state_dir)), stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 20
        )
    runs: list[dict[str, Any]] = []
    playing: asyncio.Task[None] | None = None
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            runs.append(json.loads(line))
            console.print(f"  {STORIES[len(runs) - 1]}: {told(runs[-1])}")
            if playing is None:
                console.print(f"  from now on {rate:g} requests/s")
                playing = asyncio.create_task(client.play(lambda: "digits", 600, rate))
        if await process.wait() or len(runs) < len(STORIES):
            raise SystemExit((state_dir / "pipeline.log").read_text()[-3000:])
    finally:
        if process.returncode is None:
            process.terminate()
        client.stop()
        if playing is not None:
            await playing
        await client.close()
    return runs, client


def told(run: dict[str, Any]) -> str:
    """How a run ended, in a line."""
    rollout = run.get("rollout")
    if run["success"]:
        return "promoted" if rollout else "serves"
    if rollout:
        return f"rolled back: {rollout['reason']}"
    return f"stopped before it was published: {run['reason']}"


def ending(run: dict[str, Any]) -> str:
    """The same in two or three words."""
    if run["success"]:
        return "promoted" if "rollout" in run else "serves"
    return "rolled back" if "rollout" in run else "stopped by gates"


def as_it_should(runs: list[dict[str, Any]]) -> bool:
    """Whether each of the four came to its own end."""
    phases = [run.get("rollout", {}).get("phase") for run in runs]
    return phases == [None, "Succeeded", None, "RolledBack"] and [run["success"] for run in runs] == [
        *(True, True, False, False)
    ]


def table_of(runs: list[dict[str, Any]], client: Client) -> Table:
    """Seconds of each part, and what became of it."""
    table = Table(
        title="Rollouts by Dagster: seconds of each part", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for title in ("version", "train", "check", "publish", "load", "10 %", "50 %", "promote", "end"):
        table.add_column(title, justify="left" if title in ("version", "end") else "right", no_wrap=True)
    for name, run in zip(SHORT, runs, strict=True):
        ready = [f"{run[part]:.1f}" if run[part] else "" for part in ("train", "check", "publish")]
        table.add_row(name, *ready, *steps_of(run), ending(run))
    tally = client.tally
    table.caption = f"{tally.requests:,} requests meanwhile, failures: {len(tally.failures)}"
    return table


def steps_of(run: dict[str, Any]) -> list[str]:
    """Seconds of: loading, the steps at 10 and 50 percent, promoting. The first version is only loaded."""
    if "rollout" not in run:
        return [f"{run['roll out']:.1f}" if run["success"] else "", "", "", ""]
    at = {what: when for when, what in reversed(run["rollout"]["timeline"])}
    end = max(when for when, _ in run["rollout"]["timeline"])
    marks = [at.get(what) for what in ("weight 10%", "weight 50%", "all steps are done")]
    begins = [0.0, *marks]
    shown = []
    for place, begin in enumerate(begins):
        after = next((mark for mark in begins[place + 1 :] if mark is not None), end)
        shown.append("" if begin is None else f"{after - begin:.1f}")
    return shown
