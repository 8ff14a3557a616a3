"""Dagster with a thousand models as partitions beside ten: ticks of sensors and schedules, and the asset page."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bench.rows import Limit, Row, measures

FEW, MANY = 10, 1_000
GROUP = "Dagster, models as partitions"
_PAGE = """
query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      id
      partitionKeysByDimension { name partitionKeys }
      partitionStats { numMaterialized numPartitions numFailed }
      assetPartitionStatuses { ... on DefaultPartitionStatuses { materializedPartitions } }
      assetMaterializations(limit: 100) { partition timestamp metadataEntries { label } }
    }
  }
}
"""


@measures("dagster")
async def measure(quick: bool) -> list[Row]:
    """In a process of its own, since Dagster is no part of what is measured elsewhere."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.dagster", *(["--quick"] if quick else [])]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    figures = dict(line.split("=") for line in output.decode().splitlines() if "=" in line)
    found: dict[str, float] = {name: float(value) for name, value in figures.items()}
    names = {
        "packages": ("tick of the new-packages sensor", Limit("at most", 20)),
        "data": ("tick of the new-data sensor", Limit("at most", 20)),
        "schedule": ("tick of the retrain schedule", Limit("at most", 20)),
        "page": ("queries of the asset page", Limit("at most", 2)),
    }
    return [
        Row(GROUP, f"{words}, {MANY} models", found[f"{name}_{MANY}"], "s", _beside(found[f"{name}_{FEW}"]), limit)
        for name, (words, limit) in names.items()
    ]


def _beside(seconds: float) -> str:
    return f"{seconds:.3g} s with {FEW}"


def main() -> None:
    """Print figures as NAME=SECONDS."""
    rounds = 3 if "--quick" in sys.argv else 7
    for count in (FEW, MANY):
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as root:
            for name, seconds in _figures(Path(root), count, rounds).items():
                print(f"{name}_{count}={seconds:.6f}", flush=True)


def _figures(root: Path, count: int, rounds: int) -> dict[str, float]:
    import dagster as dg
    from dagster_shoal import LocalModelStore
    from dagster_shoal.schedules import retrain_schedules
    from dagster_shoal.sensors import new_data_sensor, new_packages_sensor

    (root / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (root / "defs.py").write_text(f"from bench.dagster import definitions\n\ndefs = definitions({count})\n")
    names, models = _models(count)
    store = LocalModelStore(state_dir=str(root / "state"))
    at = datetime(2026, 1, 1, 3, tzinfo=UTC)
    with dg.DagsterInstance.from_config(str(root)) as instance:
        instance.add_dynamic_partitions("models", names)
        for name in names:
            (root / "state" / "pvcs" / "models" / name / "0123456789ab").mkdir(parents=True)
            event = dg.AssetMaterialization("published_model", partition=name, metadata={"size_bytes": 1000})
            instance.report_runless_asset_event(event)

        def tick(sensor: Any, **resources: Any) -> None:
            sensor(dg.build_sensor_context(instance=instance, resources=resources or None))

        packages, data = new_packages_sensor(models), new_data_sensor(models, lambda model: "the same")
        (schedule,) = retrain_schedules(models, "0 3 * * *")
        figures = {
            "packages": _median(lambda: tick(packages, model_store=store), rounds),
            "data": _median(lambda: tick(data), rounds),
            "schedule": _median(
                lambda: schedule(dg.build_schedule_context(instance=instance, scheduled_execution_time=at)), rounds
            ),
        }
    return {**figures, "page": _page(root, count, rounds)}


def _models(count: int) -> tuple[list[str], Any]:
    from dagster_shoal import ModelDefinition, build_model_assets
    from dagster_shoal.model import no_function

    names = [f"model-{number:04}" for number in range(count)]
    return names, build_model_assets([ModelDefinition(name, no_function, no_function, no_function) for name in names])


def definitions(count: int) -> Any:
    """What the web server loads."""
    import dagster as dg
    from dagster_shoal import LocalModelStore, ShoalResource

    _, models = _models(count)
    return dg.Definitions(
        assets=[asset for each in models for asset in each.assets],
        resources={"shoal": ShoalResource(), "model_store": LocalModelStore()},
    )


def _page(root: Path, count: int, rounds: int) -> float:
    """What the asset page asks, of a real web server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port)]
    env = {**os.environ, "DAGSTER_HOME": str(root), "PYTHONPATH": str(Path(__file__).parents[1])}
    with (root / "webserver.log").open("wb") as log:
        server = subprocess.Popen([*command, "-f", str(root / "defs.py")], env=env, cwd=root, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:

            def ask() -> dict[str, Any]:
                body = {"query": _PAGE, "variables": {"key": {"path": ["published_model"]}}}
                found: dict[str, Any] = http.post("/graphql", json=body).json()
                return found["data"]["assetNodeOrError"]

            _await(ask, count, root)
            return _median(ask, rounds)
    finally:
        server.terminate()
        server.wait(30)


def _await(ask: Callable[[], dict[str, Any]], count: int, root: Path) -> None:
    """Until the page shows all partitions."""
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(httpx.TransportError):
            if (ask().get("partitionStats") or {}).get("numMaterialized") == count:
                return
        if time.monotonic() > deadline:
            raise RuntimeError((root / "webserver.log").read_text()[-2000:])
        time.sleep(0.5)


def _median(work: Callable[[], Any], rounds: int) -> float:
    work()  # The first one fills caches.
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
