"""From "run launched" to "the new revision serves everything": what Dagster and the mesh add to training and loading.

A whole stack, as `make pipelines` starts it. The job `retrain` of the example is launched through the UI's API; its
canary has steps and no pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from bench.processes import free_port
from bench.rows import Row, at_most, measures
from shoal.client import RolloutReport, ShoalClient

_LIMIT = 20.0
_START_SECONDS = 180.0
_RUN_SECONDS = 180.0
_GATES = ("validated_model", "model_package")
_LAUNCH = """\
mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_RUN = """\
query($id: ID!) { runOrError(runId: $id) { ... on Run { status startTime
  stepStats { stepKey startTime endTime } } } }"""


@measures("rollout")
async def rollout(quick: bool) -> list[Row]:
    """Rows by part, each a median."""
    return await asyncio.to_thread(_measure, 2 if quick else 5)


def _measure(times: int) -> list[Row]:
    with (
        tempfile.TemporaryDirectory(prefix="bench-rollout-") as folder,
        _stack(Path(folder) / "state") as (url, client),
    ):
        _run(url, client, 0)  # the first version is only loaded
        found = [_run(url, client, seed) for seed in range(1, times + 1)]
    parts = {name: statistics.median(each[name] for each in found) for name in found[0]}
    beside = f"of {parts['total']:.1f} s, medians of {times} runs, without pauses"
    rows = [Row("rollout", name, figure, "s") for name, figure in parts.items() if name not in ("total", "overhead")]
    overhead = "overhead over training and loading"
    return [*rows, Row("rollout", overhead, parts["overhead"], "s", beside, at_most(_LIMIT))]


@contextlib.contextmanager
def _stack(root: Path) -> Iterator[tuple[str, ShoalClient]]:
    """Mesh and Dagster: the UI's address, and a client of the mesh."""
    ports = ["--grpc-port", str(free_port()), "--rest-port", str(free_port())]
    command = [sys.executable, "-m", "dagster_shoal", "up", "--state-dir", str(root), "--port", "0", "--", *ports]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        about = root / "dagster" / "launch.json"
        deadline = time.monotonic() + _START_SECONDS
        while not about.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Dagster did not start; try {' '.join(command[1:])}")
            time.sleep(0.1)
        with ShoalClient.from_state_dir(root) as client:
            yield json.loads(about.read_text())["ui"], client
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def _run(url: str, client: ShoalClient, seed: int) -> dict[str, float]:
    """Seconds of each part of one run; of the first, before there is a rollout, none."""
    config = {
        "trained_model": {"config": {"parameters": {"seed": seed}}},
        "roll_out": {"config": {"strategy": "canary", "weights": [10.0, 50.0], "step_seconds": 0.0}},
    }
    params = {
        "selector": {
            "repositoryLocationName": "shoal_example",
            "repositoryName": "__repository__",
            "jobName": "retrain",
        },
        "runConfigData": json.dumps({"ops": config}),
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "digits"}]},
    }
    launched = time.time()
    run = _ask(url, _LAUNCH, {"params": params})["launchRun"]["run"]["runId"]
    deadline = time.monotonic() + _RUN_SECONDS
    while (found := _ask(url, _RUN, {"id": run})["runOrError"])["status"] != "SUCCESS":
        if found["status"] in ("FAILURE", "CANCELED") or time.monotonic() > deadline:
            raise RuntimeError(f"run {run} is {found['status']}; see {url}/runs/{run}")
        time.sleep(0.1)
    return _parts(launched, found, client.rollout("digits")) if seed else {}


def _parts(launched: float, run: dict[str, Any], report: RolloutReport) -> dict[str, float]:
    def steps(*prefixes: str) -> float:
        mine = [step for step in run["stepStats"] if step["stepKey"].startswith(prefixes)]
        return sum(step["endTime"] - step["startTime"] for step in mine)

    at = {entry.what: entry.at for entry in report.timeline}
    ended = report.ended or time.time()
    train, load = steps("training_data", "trained_model"), at["copies match"] - report.started
    total = ended - launched
    return {
        "until the run's first step": run["startTime"] - launched,
        "data and training": train,
        "gates": steps(*_GATES),
        "publish": steps("published_model"),
        "pull and load": load,
        "canary steps and promotion": ended - at["copies match"],
        "total": total,
        "overhead": total - train - load,
    }


def _ask(url: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{url}/graphql", json={"query": query, "variables": variables}, timeout=60, trust_env=False)
    found = answer.json()
    if found.get("errors"):
        raise RuntimeError(f"{url}: {found['errors']}")
    data: dict[str, Any] = found["data"]
    return data
