"""A state directory that version 0.1 left is taken over as it is: models, aliases, rollouts at every stage, and undo.

The two databases under `data/state-of-0.1` are what 0.1 wrote, as SQL, less its events and pods.
"""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_models import samples, train_numbered
from support.e2e import DATA, Cluster, running
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]
KEPT = DATA / "state-of-0.1"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The models that were served, and what each says of the first image."""
    folder = tmp_path_factory.mktemp("models")
    return folder, [train_numbered(folder / f"m{number}.joblib", number, 1, 1000)[0] for number in (1, 2, 3)]


@pytest.fixture
def cluster(tmp_path: Path, answers: tuple[Path, list[int]]) -> Iterator[Cluster]:
    state = tmp_path / "state"
    (state / "pvcs").mkdir(parents=True)
    (state / "pvcs" / "kept").symlink_to(answers[0])
    for name in ("registry", "apiserver"):
        with sqlite3.connect(state / f"{name}.db") as database:
            database.executescript((KEPT / f"{name}.sql").read_text())
        database.close()
    with running(state, "--pods-per-runtime", "1") as cluster:
        yield cluster


def ask(cluster: Cluster, name: str) -> int:
    body = {"inputs": [{"name": "predict", "shape": [1, 64], "datatype": "FP32", "data": samples()[0].tolist()}]}
    request = urllib.request.Request(f"{cluster.rest}/v2/models/{name}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        return int(json.load(response)["outputs"][0]["data"][0])


def phase(cluster: Cluster, name: str) -> str:
    return str(json.loads(cluster.must("rollout", "status", name, "-o", "json"))["phase"])


def test_everything_goes_on_where_version_0_1_left_it(cluster: Cluster, answers: tuple[Path, list[int]]) -> None:
    first, second, third = answers[1]
    cluster.must("wait", "isvc", "plain", "updated", "--timeout", "90s")
    assert [ask(cluster, name) for name in ("plain", "updated", "held", "alias")] == [first, second, first, third]

    assert (phase(cluster, "updated"), phase(cluster, "held"), phase(cluster, "waiting")) == (
        "Succeeded", "RolledBack", "Paused",
    )  # fmt: skip
    assert "step 2 waits for approval" in cluster.must("rollout", "status", "waiting")
    assert ask(cluster, "waiting") in (first, second)
    cluster.must("rollout", "resume", "waiting")
    eventually(lambda: phase(cluster, "waiting") == "Succeeded", "the rollout that waited to end")
    assert ask(cluster, "waiting") == second

    cluster.must("rollout", "retry", "held")
    eventually(lambda: phase(cluster, "held") == "Paused", "the rollout that was rolled back to get as far again")
    cluster.must("rollout", "promote", "held")
    eventually(lambda: ask(cluster, "held") == second, "what was held back to serve")

    assert "updated-1" in cluster.must("rollout", "history", "updated")
    cluster.must("rollout", "undo", "updated")
    eventually(lambda: ask(cluster, "updated") == first, "what was before to serve again")
