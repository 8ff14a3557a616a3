"""Models that end, hang or exhaust their model server: nobody else's requests fail, and after two losses nobody loads
them any more."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e_bad_models import EXIT_CODE, KINDS, train_bad
from e2e_models import train_numbered
from e2e_rollouts import rollout_status
from e2e_traffic import Subject, Traffic
from support.e2e import Cluster, running, service
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]
INNOCENT = 12
RATE = 15
"""Requests a second to the innocent."""
MOST_LOST = 3
"""Requests to others that may be under way on a server as it dies: at this rate there is seldom one."""
LOAD_SECONDS = 8
CLAIM = "drill"
CANARY = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  namespace: modelmesh-serving
  annotations:
    serving.kserve.io/deploymentMode: ModelMesh
spec:
  rollout:
    strategy: canary
    steps:
    - setWeight: 50
    - pause: {{duration: 60s}}
  predictor:
    model:
      modelFormat:
        name: sklearn
      storage:
        parameters:
          type: pvc
          name: drill
        path: {path}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models' files."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def shared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two pods that everybody shares. Loads are given up soon, so that a drill does not take minutes."""
    with running(tmp_path_factory.mktemp("shared"), "--pod-memory", "512Mi") as cluster:
        patch = {"spec": {"builtInAdapter": {"modelLoadingTimeoutMillis": LOAD_SECONDS * 1000}}}
        cluster.kubectl(
            "patch",
            "servingruntime",
            "mlserver-1.x",
            "-n",
            "modelmesh-serving",
            "--type",
            "merge",
            "-p",
            json.dumps(patch),
        )
        yield cluster


@pytest.fixture(scope="module")
def innocent(shared: Cluster, folder: Path) -> list[Subject]:
    """Twelve well-behaved models, loaded, and the claim that everybody's files are on."""
    found = []
    for number in range(1, INNOCENT + 1):
        answers = train_numbered(folder / f"i{number}.joblib", number, 1, 100_000)
        found.append(Subject(f"i{number}", number, {1: answers}))
    for number, kind in enumerate(KINDS):
        name = kind.replace(" ", "-")
        train_bad(folder / f"{name}.joblib", kind, 20 + number, 1)
        train_numbered(folder / f"{name}-good.joblib", 40 + number, 1, 100_000)
        train_bad(folder / f"{name}-canary.joblib", kind, 40 + number, 2)
    shared.must("pvc", "create", CLAIM, "--from", str(folder))
    manifests = [service(subject.name, f"{subject.name}.joblib", CLAIM) for subject in found]
    shared.must("apply", "-f", "-", stdin="---\n".join(manifests))
    shared.must("wait", "isvc", *(subject.name for subject in found), "--for", "Loaded", "--timeout", "120s")
    return found


@asynccontextmanager
async def checked_traffic(cluster: Cluster, subjects: list[Subject]) -> AsyncIterator[Traffic]:
    """Traffic to the innocent, all along. None of it fails, but for what was under way on a server as it died."""
    traffic = Traffic(cluster.grpc, cluster.rest, subjects)
    playing = asyncio.create_task(traffic.play(itertools.cycle(subjects).__next__, 150, RATE))
    try:
        yield traffic
    finally:
        traffic.stop()
        await playing
        await traffic.close()
    lost = [failure for failure in traffic.failures if "is not tried on another server" in failure]
    assert [failure for failure in traffic.failures if failure not in lost] == []
    assert len(lost) <= MOST_LOST, lost
    assert traffic.answered > RATE


def restarts(cluster: Cluster) -> int:
    """How often model servers were started again."""
    return sum(
        status["restartCount"]
        for pod in cluster.object("pods")["items"]
        for status in pod["status"].get("containerStatuses", ())
        if status["name"] == "mlserver"
    )


async def asked_until(cluster: Cluster, name: str, over: Any, seconds: float = 90) -> None:
    """Ask a model again and again, whatever it answers, until something is so."""
    asking = Traffic(cluster.grpc, cluster.rest, [Subject(name, 0, {})])
    pending: set[asyncio.Task[None]] = set()
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        while not await asyncio.to_thread(over):
            assert asyncio.get_running_loop().time() < deadline, "\n".join(asking.failures[-5:])
            for _ in range(20):
                task = asyncio.create_task(asking.ask(asking.subjects[0], "grpc", 20))
                pending.add(task)
                task.add_done_callback(pending.discard)
                await asyncio.sleep(0.01)
    finally:
        for task in list(pending):
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await asking.close()


def failure_of(cluster: Cluster, name: str) -> dict[str, Any]:
    return (cluster.status(name).get("modelStatus") or {}).get("lastFailureInfo") or {}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_model_is_quarantined_and_nobody_else_notices(shared: Cluster, innocent: list[Subject], kind: str):
    name = kind.replace(" ", "-")
    before = restarts(shared)
    async with checked_traffic(shared, innocent):
        await asyncio.to_thread(shared.must, "apply", "-f", "-", stdin=service(name, f"{name}.joblib", CLAIM))
        await asked_until(shared, name, lambda: failure_of(shared, name).get("reason") == "ModelQuarantined")
        await asyncio.sleep(5)  # while everything comes back
    status = shared.status(name)
    message = status["modelStatus"]["lastFailureInfo"]["message"]
    assert status["modelStatus"]["states"]["activeModelState"] == "FailedToLoad"
    assert any(c["type"] == "Ready" and c["status"] == "False" for c in status["conditions"])
    assert "is quarantined: model servers were lost 2 times while they were busy with it" in message
    words = {
        "eats memory": "it was killed because it took more memory than it may",
        "hangs as it loads": "hung while it was loading",
    }
    assert words.get(kind, f"exit code {EXIT_CODE}") in message
    assert restarts(shared) - before == 2
    assert "quarantine" in shared.must("why", name)
    events = json.loads(shared.kubectl("get", "events", "-n", "modelmesh-serving", "-o", "json"))["items"]
    mine = [event for event in events if event["involvedObject"]["name"] == name]
    assert [event["reason"] for event in mine if event["reason"] == "ModelQuarantined"] == ["ModelQuarantined"]
    eventually(lambda: len({copy["revision"] for copy in shared.copies()}) >= INNOCENT, "all innocent ones loaded", 30)
    if kind == KINDS[0]:
        released = shared.must("release", name)
        assert "released: it is loaded when it is asked for" in released
    shared.must("delete", "isvc", name)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_canary_is_rolled_back_and_nobody_notices(
    shared: Cluster, innocent: list[Subject], folder: Path, kind: str
):
    number, name = KINDS.index(kind), kind.replace(" ", "-") + "-c"
    file = kind.replace(" ", "-")
    answers = train_numbered(folder / "unused.joblib", 40 + number, 1, 0)
    subject = Subject(name, 40 + number, {1: answers, 2: train_bad(folder / "unused2.joblib", kind, 40 + number, 2)})
    subject.newest, subject.divided = 2, True
    shared.must("apply", "-f", "-", stdin=CANARY.format(name=name, path=f"{file}-good.joblib"))
    shared.must("wait", "isvc", name, "--for", "Loaded", "--timeout", "60s")
    before = restarts(shared)
    async with checked_traffic(shared, [*innocent, *[subject] * 6]):
        await asyncio.to_thread(
            shared.must, "apply", "-f", "-", stdin=CANARY.format(name=name, path=f"{file}-canary.joblib")
        )
        await asyncio.to_thread(
            eventually,
            lambda: rollout_status(shared, name).get("phase") == "RolledBack",
            "the canary is rolled back",
            80,
            0.5,
        )
        await asyncio.sleep(8)
    report = rollout_status(shared, name)
    assert "the model server of pod" in report["reason"]
    assert restarts(shared) - before == 1
    assert not [copy for copy in shared.copies(name) if copy["revision"] == report["target"]]
    shared.must("delete", "isvc", name)
