"""Runs the Dagster job `retrain` of the example's digits: good, better, worse, brittle. One line of JSON for each run.

A process of its own, as Dagster's run workers are. The instance is kept in the state directory, so that
`python -m dagster_shoal up --state-dir DIR` shows these runs after a demo that was kept.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from dagster_shoal.local.home import configure, settle
from shoal.client import NotFound, ShoalClient

CANARY = {
    "strategy": "canary",
    "weights": [10.0, 50.0],
    "step_seconds": 60.0,
    "max_latency_ratio": 0.0,
    "on_inconclusive": "rollback",
}
RUNS = (("good", 0), ("good", 1), ("worse", 2), ("brittle", 3))
PARTS = {
    "train": ("training_data", "trained_model"),
    "check": ("validated_model", "model_package"),
    "publish": ("published_model",),
    "roll out": ("roll_out",),
}


def run(job: dg.JobDefinition, instance: dg.DagsterInstance, client: ShoalClient, recipe: str, seed: int) -> dict:
    """One run, and what became of it."""
    training = {"parameters": {"recipe": recipe, "seed": seed}}
    config = {"ops": {"trained_model": {"config": training}, "roll_out": {"config": CANARY}}}
    before = newest(client)
    began = time.perf_counter()
    done = job.execute_in_process(config, instance, partition_key="digits", raise_on_error=False)
    result = {"recipe": recipe, "success": done.success, "seconds": time.perf_counter() - began}
    steps = instance.get_run_step_stats(done.run_id)
    for part, prefixes in PARTS.items():
        mine = [step for step in steps if step.step_key.startswith(prefixes) and step.end_time and step.start_time]
        result[part] = sum(step.end_time - step.start_time for step in mine)
    result["reason"] = "; ".join(reasons(done))
    after = newest(client)
    if after and after != before:
        result["rollout"] = after
    return result


def reasons(done: dg.ExecuteInProcessResult) -> Iterator[str]:
    """Why a run failed: gates that say no, or what ended the rollout."""
    for check in done.get_asset_check_evaluations():
        if not check.passed:
            details = check.metadata.get("findings")
            problems = str(details.value).replace("\n- ", "; ").removeprefix("- ") if details else check.description
            yield f"gate {check.check_name}: {problems}"


def newest(client: ShoalClient) -> dict | None:
    """The newest rollout of the endpoint: its phase and when each thing happened."""
    try:
        report = client.rollout("digits")
    except NotFound:
        return None
    timeline = [(round(entry.at - report.started, 2), entry.what) for entry in report.timeline]
    return {"id": report.id, "phase": report.phase, "reason": report.reason, "timeline": timeline}


def main(state_dir: Path) -> None:
    """All runs, one after the other."""
    os.environ["SHOAL_STATE_DIR"] = str(state_dir)
    os.environ["DAGSTER_HOME"] = home = str(state_dir / "dagster")
    logging.disable(logging.INFO)
    Path(home).mkdir(exist_ok=True)
    configure(Path(home))
    settle(Path(home), "models", ["digits"])
    from dagster_shoal.example.definitions import defs

    job = defs().resolve_job_def("retrain")
    with dg.DagsterInstance.get() as instance, ShoalClient.from_state_dir(state_dir) as client:
        for recipe, seed in RUNS:
            print(json.dumps(run(job, instance, client, recipe, seed)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
