"""The mesh and the gateway killed at every step of a rollout: it ends as declared, and never in between."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e_models import train_failing, train_numbered
from e2e_rollouts import rollout_status
from e2e_traffic import Subject, Traffic
from shoal.client import ShoalClient, ShoalError
from support.e2e import Cluster, kill, running, service
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]
RATE = 40.0
STEPS = """\
  rollout:
    strategy: canary
    steps:
    - setWeight: 10
    - pause: {duration: 1s}
    - setWeight: 50
    - analysis:
        timeout: 120s
        checks:
        - {name: enough, metric: errorRate, max: 0.5, minSamples: 30}
    - pause: {}
    - setWeight: 100
    - pause: {duration: 3s}
    warmUp: {requests: 20}
"""
BAD = """\
  rollout:
    strategy: canary
    steps:
    - setWeight: 50
    - pause: {duration: 60s}
    checks:
    - {name: errors, metric: errorRate, max: 0.02, minSamples: 20}
    warmUp: {requests: 0}
"""


@dataclass(frozen=True)
class Moment:
    """When to kill: as soon as a rollout looks like this, or so long after it was declared."""

    name: str
    reached: Callable[[dict[str, Any]], bool] = lambda _: True
    after: float = 0.0


def at_step(number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda report: report["step"] >= number and report["phase"] in ("Progressing", "Paused")


APPROVAL = Moment("waiting for approval", lambda report: report["phase"] == "Paused")
MOMENTS = [
    Moment("declared"),
    Moment("loading", after=0.03),
    Moment("warming up", after=0.08),
    Moment("at 10%", at_step(1)),
    Moment("in analysis", at_step(3)),
    APPROVAL,
    Moment("at 100%", at_step(6)),
    Moment("over", lambda report: report["ended"] is not None),
]


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster to be hurt."""
    with running(tmp_path_factory.mktemp("hurt")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def subject(hurt: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A model that is served in its first version."""
    folder = tmp_path_factory.mktemp("models")
    answers = train_numbered(folder / "v1.joblib", 1, 1, 10_000)
    hurt.must("pvc", "create", "hurt", "--from", str(folder))
    hurt.must("apply", "-f", "-", stdin=service("hurt", "v1.joblib", "hurt"))
    hurt.must("wait", "isvc", "hurt", "--for", "Loaded", "--timeout", "60s")
    return Subject("hurt", 1, {1: answers}, divided=True)


def status(cluster: Cluster) -> dict[str, Any]:
    """The newest rollout; empty while there is none, or nobody to ask."""
    return rollout_status(cluster, "hurt")


def strike(cluster: Cluster, victim: str, moment: Moment, before: str) -> None:
    """Kill a part when the moment has come, and wait until it is back."""
    time.sleep(moment.after)
    if moment.after == 0.0 and moment.name != "declared":
        eventually(
            lambda: (found := status(cluster)).get("id", before) != before and moment.reached(found), moment.name
        )
    pid = cluster.part(victim)
    kill(pid)
    eventually(lambda: cluster.part(victim) != pid and answers(cluster), f"the {victim} to be back")


def approve_when_asked(cluster: Cluster, before: str) -> dict[str, Any]:
    """The rollout at its end; where it waits for approval it is given."""

    def over() -> dict[str, Any] | None:
        report = status(cluster)
        if not report or report["id"] == before:
            return None
        if report["phase"] == "Paused":
            with contextlib.suppress(ShoalError), ShoalClient.from_state_dir(cluster.root) as client:
                client.steer("hurt", "resume", reason="looks good")
        return report if report["ended"] else None

    return eventually(over, "the rollout to end", seconds=120, every=0.3)


@pytest.mark.parametrize("victim", ["mesh", "gateway"])
@pytest.mark.timeout(900)
async def test_a_rollout_survives_a_kill_at_every_step(hurt: Cluster, subject: Subject, victim: str):
    for moment in MOMENTS:
        active = subject.oldest
        version = subject.newest + 1
        path = hurt.root / "pvcs" / "hurt" / f"v{version}.joblib"
        subject.answers[version] = await asyncio.to_thread(train_numbered, path, 1, version, 10_000)
        subject.newest = version
        before = (await asyncio.to_thread(status, hurt)).get("id", "")
        traffic = Traffic(hurt.grpc, hurt.rest, [subject])
        playing = asyncio.create_task(traffic.play(lambda: subject, 600, RATE))
        try:
            await asyncio.sleep(0.5)
            await asyncio.to_thread(hurt.must, "apply", "-f", "-", stdin=service("hurt", path.name, "hurt") + STEPS)
            striking = asyncio.create_task(asyncio.to_thread(strike, hurt, victim, moment, before))
            if moment is APPROVAL:  # else it may be approved before it is seen to wait
                await striking
            report = await asyncio.to_thread(approve_when_asked, hurt, before)
            await striking
        finally:
            traffic.stop()
            await playing
            await traffic.close()
        assert report["phase"] == "Succeeded", f"killed {moment.name}: {report}"
        if victim == "mesh":  # without a gateway nobody answers
            assert traffic.failures == [], Counter(failure.split(": ", 1)[1] for failure in traffic.failures)
        assert report["active"] == subject.revisions.get(active, report["active"])
        subject.oldest = version
        await only(hurt, subject, version)


@pytest.mark.parametrize("victim", ["mesh", "gateway"])
@pytest.mark.timeout(300)
async def test_a_bad_canary_is_rolled_back_although_a_part_is_killed(hurt: Cluster, subject: Subject, victim: str):
    active, version = subject.newest, max(subject.answers) + 1
    path = hurt.root / "pvcs" / "hurt" / f"v{version}.joblib"
    subject.answers[version] = train_failing(path, 1, version)
    before = status(hurt).get("id", "")
    hurt.must("apply", "-f", "-", stdin=service("hurt", Path(path).name, "hurt") + BAD)
    half = Moment("at 50%", at_step(1))
    strike(hurt, victim, half, before)
    traffic = Traffic(hurt.grpc, hurt.rest, [subject])
    playing = asyncio.create_task(traffic.play(lambda: subject, 600, RATE))
    report = await asyncio.to_thread(approve_when_asked, hurt, before)
    traffic.stop()
    await playing
    await traffic.close()
    assert report["phase"] == "RolledBack"
    assert report["weight"] == 0
    assert traffic.failures == []
    await only(hurt, subject, active)


def answers(cluster: Cluster) -> bool:
    """Whether every part is there and the gateway takes connections."""
    try:
        for port in (cluster.grpc_port, cluster.rest_port):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return cluster.ready()


async def only(cluster: Cluster, subject: Subject, version: int) -> None:
    """Every answer is this version's."""
    traffic = Traffic(cluster.grpc, cluster.rest, [subject])
    subject.counts.clear()
    await traffic.play(lambda: subject, 1.0, RATE)
    await traffic.close()
    assert traffic.failures == []
    assert set(subject.counts) == {version}
