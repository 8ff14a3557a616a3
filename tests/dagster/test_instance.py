"""The instance configs that are shipped: valid by Dagster's own schema, and with the limits the design relies on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml
from dagster._config import process_config, resolve_to_config_type, validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

import dagster as dg
import dagster_shoal

ROOT = Path(__file__).parents[2]
LOCAL = Path(dagster_shoal.__file__).parent / "local" / "dagster.yaml"
SHARED = ROOT / "pipelines" / "instance" / "dagster.yaml"
IN_A_CLUSTER = ROOT / "examples" / "dagster" / "kubernetes" / "dagster.yaml"


def config(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", [LOCAL, SHARED], ids=["local", "shared"])
def test_it_is_valid(path: Path):
    found = validate_config(dagster_instance_config_schema(), config(path))
    assert found.success, found.errors


@pytest.mark.parametrize("path", [LOCAL, SHARED], ids=["local", "shared"])
def test_one_run_a_model_fast_dequeue_and_no_slot_held_by_the_dead(path: Path):
    found = config(path)
    limits = {limit["key"]: limit for limit in found["concurrency"]["runs"]["tag_concurrency_limits"]}
    for key in ("shoal/model", "dagster/partition"):
        assert limits[key]["limit"] == 1
        assert limits[key]["value"] == {"applyLimitPerUniqueValue": True}
    assert found["run_coordinator"]["config"]["dequeue_interval_seconds"] == 1
    assert found["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert found.get("run_retries", {}).get("retry_on_asset_or_op_failure", False) is False


@pytest.mark.parametrize("path", [SHARED, IN_A_CLUSTER], ids=["shared", "in a cluster"])
def test_postgres_is_reached_by_a_driver_that_is_installed(path: Path, monkeypatch: pytest.MonkeyPatch):
    given = config(path)["storage"]["postgres"]
    for variable in (value["env"] for value in given["postgres_db"].values() if isinstance(value, dict)):
        monkeypatch.setenv(variable, "some")
    found = process_config(resolve_to_config_type(DagsterPostgresStorage.config_type()), given)
    assert found.success, found.errors
    engine = sqlalchemy.create_engine(pg_url_from_config(found.value or {}))
    assert engine.driver == "psycopg2"


def test_the_local_one_starts(tmp_path: Path):
    (tmp_path / "dagster.yaml").write_text(LOCAL.read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"


def test_the_launcher_takes_its_config():
    given = config(SHARED)["run_launcher"]["config"]
    found = validate_config(K8sRunLauncher.config_type(), given)
    assert found.success, found.errors
