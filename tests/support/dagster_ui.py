"""A real Dagster (UI, daemon, code server) on a real embedded mesh, launched as by `make pipelines`; its GraphQL."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from dagster_shoal.example import digits
from e2e_rollouts import rollout_status
from support.e2e import Cluster, free_port
from waiting import eventually

LOCATION = "shoal_example"
MODULE = "dagster_ui_definitions"
"""Below tests/, which is on the path of what `launched` starts."""
TESTS = Path(__file__).parents[1]
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
_LAUNCH = """\
mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } ... on InvalidStepError { invalidStepKey }
  ... on PipelineNotFoundError { message } } }"""
_RUN = """\
query($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status startTime endTime
  tags { key value } } } }"""
_ENTRIES = """\
metadataEntries { label __typename ... on TextMetadataEntry { text } ... on FloatMetadataEntry { floatValue }
  ... on IntMetadataEntry { intValue } ... on MarkdownMetadataEntry { mdStr } ... on TableMetadataEntry { table {
  records } } }"""
_FAILURES = f"""\
query($id: ID!) {{ logsForRun(runId: $id) {{ __typename ... on EventConnection {{ events {{ __typename
  ... on ExecutionStepFailureEvent {{ stepKey error {{ message }} failureMetadata {{ description {_ENTRIES} }} }}
  ... on RunFailureEvent {{ message }} }} }} }} }}"""
_MESSAGES = """\
query($id: ID!) { logsForRun(runId: $id) { __typename ... on EventConnection { events { ... on MessageEvent {
  message } } } } }"""
_ASSET = f"""\
query($key: AssetKeyInput!, $partition: String!) {{ assetOrError(assetKey: $key) {{ __typename ... on Asset {{
  assetMaterializations(partitions: [$partition]) {{ runId {_ENTRIES} }}
  assetObservations(partitions: [$partition]) {{ runId timestamp {_ENTRIES} }} }} }} }}"""
_CHECKS = f"""\
query($key: AssetKeyInput!) {{ assetNodeOrError(assetKey: $key) {{ __typename ... on AssetNode {{ assetChecksOrError {{
  __typename ... on AssetChecks {{ checks {{ name executionForLatestMaterialization {{ status evaluation {{ success
  description {_ENTRIES} }} }} }} }} }} }} }} }}"""
_INSTIGATOR = """\
query($selector: InstigationSelector!) { instigationStateOrError(instigationSelector: $selector) { __typename
  ... on InstigationState { id status ticks(limit: 20) { status runIds skipReason error { message } } } } }"""


class Dagster:
    """The UI's GraphQL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer's data; an error fails the test."""
        body = {"query": query, "variables": variables}
        answer = httpx.post(f"{self.url}/graphql", json=body, timeout=60, trust_env=False).json()
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def selector(self, **more: str) -> dict[str, str]:
        """What the one repository of the location is called."""
        return {"repositoryName": "__repository__", "repositoryLocationName": LOCATION, **more}

    def launch(self, job: str, config: dict[str, Any], partition: str = "digits", assets: tuple[str, ...] = ()) -> str:
        """Launch a run of a job, or of some of its assets: its id."""
        marked = {"dagster/partition": partition, "shoal/model": partition} if partition else {}
        some = {"assetSelection": [{"path": self.path(name)} for name in assets]} if assets else {}
        params = {
            "selector": {**self.selector(jobName=job), **some},
            "runConfigData": json.dumps(config),
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in marked.items()]},
        }
        answer = self.ask(_LAUNCH, params=params)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def run(self, run: str) -> dict[str, Any]:
        """Its status and tags."""
        found = self.ask(_RUN, id=run)["runOrError"]
        assert found["__typename"] == "Run", found
        return {"status": found["status"], "tags": {tag["key"]: tag["value"] for tag in found["tags"]}}

    def span(self, run: str) -> tuple[float, float]:
        """When an ended run began and ended."""
        found = self.ask(_RUN, id=run)["runOrError"]
        return found["startTime"], found["endTime"]

    def ended(self, run: str, timeout: float = 180.0) -> str:
        """Its status once it is over."""

        def look() -> str:
            status = self.run(run)["status"]
            return status if status in ENDED else ""

        return eventually(look, f"run {run} ends", timeout, 0.25)

    def must_succeed(self, run: str, timeout: float = 180.0) -> None:
        """Wait for it, and show why where it fails."""
        status = self.ended(run, timeout)
        assert status == "SUCCESS", self.failures(run)

    def failures(self, run: str) -> list[dict[str, Any]]:
        """Steps that failed: why, in words and in metadata."""
        events = self.ask(_FAILURES, id=run)["logsForRun"]["events"]
        return [
            {
                "step": event["stepKey"],
                "message": (event["error"] or {}).get("message", ""),
                "description": (event["failureMetadata"] or {}).get("description", ""),
                "metadata": _plain(event["failureMetadata"]),
            }
            for event in events
            if event["__typename"] == "ExecutionStepFailureEvent"
        ]

    def worker(self, run: str) -> int:
        """The process that executes a run."""
        events = self.ask(_MESSAGES, id=run)["logsForRun"]["events"]
        found = [re.search(r"\(pid: (\d+)\)", event.get("message", "")) for event in events]
        return next(int(each[1]) for each in found if each)

    def asset(self, name: str, partition: str = "digits") -> dict[str, list[dict[str, Any]]]:
        """Materializations and observations of a partition, newest first: what each shows, and its run."""
        found = self.ask(_ASSET, key={"path": self.path(name)}, partition=partition)["assetOrError"]
        assert found["__typename"] == "Asset", found
        return {
            kind: [{**_plain(event), "run": event["runId"]} for event in found[f"asset{kind.title()}"]]
            for kind in ("materializations", "observations")
        }

    def path(self, name: str) -> list[str]:
        """The key of the asset whose last part this is."""
        nodes = self.ask("{ assetNodes { assetKey { path } } }")["assetNodes"]
        return next(node["assetKey"]["path"] for node in nodes if node["assetKey"]["path"][-1] == name)

    def checks(self, asset: str) -> dict[str, dict[str, Any]]:
        """The latest execution of each check of an asset."""
        node = self.ask(_CHECKS, key={"path": self.path(asset)})["assetNodeOrError"]
        checks = node["assetChecksOrError"]["checks"]
        return {check["name"]: check["executionForLatestMaterialization"] or {} for check in checks}

    def ticks(self, name: str) -> list[dict[str, Any]]:
        """Ticks of a sensor or schedule, newest first."""
        found = self.ask(_INSTIGATOR, selector=self.selector(name=name))["instigationStateOrError"]
        assert found["__typename"] == "InstigationState", found
        return found["ticks"]


def _plain(event: dict[str, Any] | None) -> dict[str, Any]:
    """Metadata entries by label."""
    values = ("text", "floatValue", "intValue", "mdStr")
    return {
        entry["label"]: next((entry[name] for name in values if name in entry), entry.get("table"))
        for entry in (event or {}).get("metadataEntries") or []
    }


BEFORE_ROLLOUT = ("training_data", "trained_model", "validated_model", "model_package", "published_model")


ENOUGH = 200
"""Answers after which a version of the recipe `brittle` (one in twenty is an error) has shown itself."""


def publish(dagster: Dagster, recipe: str, seed: int) -> None:
    """Train and publish a version, and do not roll it out."""
    config = {"ops": {"trained_model": {"config": {"parameters": {"recipe": recipe, "seed": seed}}}}}
    dagster.must_succeed(dagster.launch("retrain", config, assets=BEFORE_ROLLOUT))


def retrain(recipe: str = "good", seed: int = 0, **rollout: Any) -> dict[str, Any]:
    """Run config of the job `retrain`."""
    return {
        "ops": {
            "trained_model": {"config": {"parameters": {"recipe": recipe, "seed": seed}}},
            "roll_out": {"config": {"step_seconds": 30.0, "min_samples": 30, "max_latency_ratio": 0.0, **rollout}},
        }
    }


@dataclass
class Caller:
    """Sends live scans to an endpoint, evenly, from threads of its own; every failure is kept."""

    rest: str
    model: str
    rate: float = 40.0
    failures: list[str] = field(default_factory=list)
    answered: int = 0

    @contextlib.contextmanager
    def calling(self) -> Iterator[Caller]:
        """Until the end of the block, which fails if any request did."""
        stop = threading.Event()
        threads = [threading.Thread(target=self._call, args=(stop, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert self.answered > 0
        assert self.failures == [], f"{len(self.failures)} of {self.answered + len(self.failures)} requests failed"

    def _call(self, stop: threading.Event, number: int) -> None:
        rows = digits.live()
        chosen = np.random.default_rng(number)
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not stop.wait(4 / self.rate):
                row = rows[chosen.integers(len(rows))]
                tensor = {"name": digits.INPUT, "shape": [1, 64], "datatype": "FP32", "data": row.tolist()}
                try:
                    answer = client.post(f"{self.rest}/v2/models/{self.model}/infer", json={"inputs": [tensor]})
                except httpx.HTTPError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                if answer.is_success and "outputs" in answer.json():
                    self.answered += 1
                else:
                    self.failures.append(f"{answer.status_code}: {answer.text[:300]}")


@dataclass(frozen=True)
class Stack:
    """Mesh and Dagster, running."""

    cluster: Cluster
    dagster: Dagster
    home: Path
    process: subprocess.Popen[str]

    def part(self, name: str) -> int:
        """The pid of a part: webserver, daemon or code-server."""
        return json.loads((self.home / "launch.json").read_text())["parts"][name]

    def caller(self, model: str = "digits") -> Caller:
        """Traffic to an endpoint."""
        return Caller(self.cluster.rest, model)

    def rollout(self, name: str = "digits") -> dict[str, Any]:
        """How the newest rollout of an endpoint stands, by the mesh's own account; empty: there is none."""
        return rollout_status(self.cluster, name)


@contextlib.contextmanager
def launched(root: Path, *options: str) -> Iterator[Stack]:
    """Everything, started by the real command and ended by Ctrl-C."""
    cluster = Cluster(root, free_port(), free_port())
    ports = ["--grpc-port", str(cluster.grpc_port), "--rest-port", str(cluster.rest_port)]
    command = [sys.executable, "-m", "dagster_shoal", "up", "--state-dir", str(root), "--port", "0", *options]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    home = root / "dagster"
    log = root.with_name(root.name + ".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--", *ports],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            start_new_session=True,
        )
    try:

        def ready() -> dict[str, Any] | None:
            assert process.poll() is None, log.read_text()
            path = home / "launch.json"
            return json.loads(path.read_text()) if path.exists() else None

        about = eventually(ready, "Dagster is up", 180, 0.2)
        yield Stack(cluster, Dagster(about["ui"]), home, process)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0, log.read_text()
    assert not cluster.processes(), "mesh processes are left"
    assert not marked(home), "Dagster processes are left"


def listens_on(pid: int) -> list[str]:
    """Addresses that a process listens on, as the kernel writes them: `0100007F` is 127.0.0.1."""
    files = Path(f"/proc/{pid}/fd").iterdir()
    mine = {str(file.readlink()).removeprefix("socket:[").removesuffix("]") for file in files if file.is_symlink()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in mine:
                found.append(fields[1].partition(":")[0])
    return found


def marked(home: Path) -> list[int]:
    """Processes of a launch."""
    mark = f"SHOAL_PIPELINES={home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
