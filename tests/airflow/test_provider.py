"""The Airflow provider against a real Airflow, in an environment of its own, and a real embedded cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.linear_model import LogisticRegression

from needs import need
from support.e2e import Cluster, running
from tools.places import AIRFLOW, ROOT

PROVIDER = ROOT / "pipelines" / "airflow_provider_shoal"
ROWS = [[0.0], [1.0], [2.0], [3.0]]


@pytest.fixture(scope="module")
def airflow() -> Path:
    """Python with Airflow."""
    need("airflow")
    return AIRFLOW / "bin" / "python"


@pytest.fixture(scope="module")
def home(airflow: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a user exports for an Airflow with a fresh database."""
    home = tmp_path_factory.mktemp("airflow")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST", "SHOAL"))}
    settings = {
        **clean,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROVIDER / "airflow_provider_shoal" / "example_dags"),
    }
    command = [str(airflow.with_name("airflow")), "db", "migrate"]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return settings


@pytest.fixture(scope="module")
def cluster(airflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An embedded cluster with one pod and three models on a claim."""
    models = tmp_path_factory.mktemp("models")
    for index, name in enumerate(("a", "b", "c")):
        joblib.dump(LogisticRegression(C=1.0 + index).fit(ROWS, [0, 0, 1, 1]), models / f"{name}.joblib")
    with running(tmp_path_factory.mktemp("airflow-cluster"), "--pods-per-runtime", "1") as cluster:
        cluster.must("pvc", "create", "models", "--from", str(models))
        yield cluster


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_provider_works_with_a_real_airflow(airflow: Path, home: dict[str, str], cluster: Cluster) -> None:
    command = [str(airflow), "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", str(PROVIDER / "tests")]
    settings = {**home, "SHOAL_TEST_STATE_DIR": str(cluster.root)}
    done = subprocess.run(command, env=settings, cwd=PROVIDER, capture_output=True, text=True, timeout=540, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
