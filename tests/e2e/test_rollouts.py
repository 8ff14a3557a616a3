"""Rollouts under traffic: most take over, every sixth is rolled back by itself, and no request fails."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from e2e_models import train_failing, train_numbered, train_refusing
from e2e_rollouts import revisions_asked, rollout_status, until_shown
from e2e_traffic import Subject, Traffic
from speed import rate, times
from support.e2e import Cluster, running, service
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROLLBACKS = int(os.environ.get("SHOAL_ROLLBACKS") or times(10))
"""Every sixth rollout is a bad one: fifty take over, ten go back. `SHOAL_ROLLBACKS=3` is a shorter run."""
ROLLOUTS = 5 * ROLLBACKS
RATE = rate(300.0)
CANARY = """\
  rollout:
    strategy: canary
    steps:
    - setWeight: 10
    - analysis: {timeout: 60s}
    - setWeight: 50
    - pause: {duration: 500ms}
    checks:
    - {name: errors, metric: errorRate, max: 0.02, minSamples: 50}
    warmUp: {requests: 0}
"""
SHADOW = """\
  rollout:
    strategy: shadow
    shadow: {percent: 20, duration: 30s, then: pause}
    checks:
    - {name: flips, metric: disagreementRate, max: 0.05, minSamples: 80}
    - {name: drift, metric: scoreDrift, max: 0.9, minSamples: 80}
"""
PREVIEW = """\
  rollout:
    strategy: blueGreen
    checks:
    - {name: errors, metric: errorRate, maxIncrease: 0.01, minSamples: 2}
"""
LONG = """\
  rollout:
    strategy: canary
    steps:
    - setWeight: WEIGHT
    - pause: {}
"""


@pytest.fixture(scope="module")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own, as rollouts are noisy neighbours."""
    with running(tmp_path_factory.mktemp("rolling")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def subject(rolling: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A model that is served in its first version."""
    folder = tmp_path_factory.mktemp("models")
    answers = train_numbered(folder / "v1.joblib", 1, 1, 10_000)
    rolling.must("pvc", "create", "rolled", "--from", str(folder))
    rolling.must("apply", "-f", "-", stdin=service("rolled", "v1.joblib", "rolled"))
    rolling.must("wait", "isvc", "rolled", "--for", "Loaded", "--timeout", "60s")
    return Subject("rolled", 1, {1: answers}, divided=True)


def train(cluster: Cluster, subject: Subject, version: int, *, failing: bool = False) -> str:
    path = cluster.root / "pvcs" / "rolled" / f"v{version}.joblib"
    if failing:
        make = train_failing if version % 2 else train_refusing
        subject.answers[version] = make(path, subject.number, version)
    else:
        subject.answers[version] = train_numbered(path, subject.number, version, 10_000)
    return path.name


def declare(cluster: Cluster, path: str, rollout: str) -> str:
    """Change the model; the id of the rollout that begins."""
    before = status(cluster).get("id")
    cluster.must("apply", "-f", "-", stdin=service("rolled", path, "rolled") + rollout)
    deadline = time.monotonic() + 30
    while (found := status(cluster).get("id")) == before:
        assert time.monotonic() < deadline, "no rollout begins"
        time.sleep(0.05)
    return found


def status(cluster: Cluster) -> dict[str, Any]:
    return rollout_status(cluster, "rolled")


def ended(cluster: Cluster, rollout: str, timeout: float = 60.0) -> dict[str, Any]:
    """The rollout once it is over."""
    deadline = time.monotonic() + timeout
    while True:
        found = status(cluster)
        assert found["id"] == rollout
        if found["ended"]:
            return found
        assert time.monotonic() < deadline, f"not over: {found}"
        time.sleep(0.1)


def until_paused(cluster: Cluster, rollout: str) -> dict[str, Any]:
    """The rollout once it waits for someone."""

    def paused() -> dict[str, Any] | None:
        found = status(cluster)
        assert (found["id"], found["ended"]) == (rollout, None)
        return found if found["phase"] == "Paused" else None

    return cast("dict[str, Any]", eventually(paused, "it waits for someone"))


@asynccontextmanager
async def traffic_to(cluster: Cluster, subject: Subject) -> AsyncIterator[Traffic]:
    """Requests at the rate of the test, until the end of the block."""
    traffic = Traffic(cluster.grpc, cluster.rest, [subject])
    playing = asyncio.create_task(traffic.play(lambda: subject, 3600, RATE))
    try:
        await asyncio.sleep(1)
        yield traffic
    finally:
        traffic.stop()
        reached = await playing
        await traffic.close()
    print(f"\n{reached:.0f} requests/s, {traffic.answered} in all, {len(traffic.failures)} failed")
    assert traffic.failures == [], Counter(failure.split(": ", 1)[1] for failure in traffic.failures)


@pytest.mark.timeout(1200)
async def test_rollouts_and_rollbacks_one_after_another_without_a_failed_request(rolling: Cluster, subject: Subject):
    version, rolled_back = 1, []
    async with traffic_to(rolling, subject) as traffic:
        for number in range(ROLLOUTS + ROLLBACKS):
            active, version = subject.oldest, version + 1
            failing = number % 6 == 5
            path = await asyncio.to_thread(train, rolling, subject, version, failing=failing)
            subject.newest = version
            rollout = await asyncio.to_thread(declare, rolling, path, CANARY)
            report = await asyncio.to_thread(ended, rolling, rollout)
            await asyncio.to_thread(until_shown, rolling, "rolled", report)
            if failing:
                assert report["phase"] == "RolledBack", report
                assert "errors" in report["reason"]
                rolled_back.append(report)
                subject.newest = active
            else:
                assert report["phase"] == "Succeeded", report
                assert subject.counts[version] > 0
                subject.oldest = version
    assert len(rolled_back) == ROLLBACKS
    assert traffic.answered > 50 * (ROLLOUTS + ROLLBACKS)


@pytest.mark.parametrize("version", [88, 89])
async def test_a_bad_canary_is_out_five_seconds_after_its_first_requests(
    rolling: Cluster, subject: Subject, version: int
):
    path = train(rolling, subject, version, failing=True)
    subject.newest = version
    async with traffic_to(rolling, subject):
        rollout = await asyncio.to_thread(declare, rolling, path, CANARY)
        report = await asyncio.to_thread(ended, rolling, rollout)
    subject.newest = subject.oldest
    assert report["phase"] == "RolledBack"
    begun = {entry["what"]: entry["at"] for entry in report["timeline"]}["weight 10%"]
    assert report["revisions"][report["target"]]["requests"] <= 200
    assert report["ended"] - begun < 5


@pytest.mark.parametrize("weight", [1, 10, 50])
async def test_weights_are_what_was_declared(rolling: Cluster, subject: Subject, weight: int):
    version = 91 + (1, 10, 50).index(weight)
    path = train(rolling, subject, version)
    subject.newest = version
    active = subject.oldest
    rollout = await asyncio.to_thread(declare, rolling, path, LONG.replace("WEIGHT", str(weight)))
    await asyncio.to_thread(until_paused, rolling, rollout)
    await asyncio.sleep(0.5)
    before = subject.counts.copy()
    async with traffic_to(rolling, subject):
        await asyncio.sleep(8)
    seen = subject.counts - before
    total, share = seen.total(), weight / 100
    assert total == seen[active] + seen[version]
    spread = math.sqrt(total * share * (1 - share))
    assert abs(seen[version] - total * share) < 4 * spread + 2, f"{seen[version]} of {total} for {weight}%"
    rolling.must("rollout", "abort", "rolled", "--reason", "measured")
    subject.newest = active


async def test_a_shadow_answers_nobody_and_is_sent_back_if_it_disagrees(rolling: Cluster, subject: Subject):
    volume = rolling.root / "pvcs" / "rolled"
    shutil.copy(volume / f"v{subject.oldest}.joblib", volume / "same.joblib")
    other = train(rolling, subject, 97)
    async with traffic_to(rolling, subject) as traffic:  # an answer of another revision is a failure
        rollout = await asyncio.to_thread(declare, rolling, "same.joblib", SHADOW)
        paused = await asyncio.to_thread(until_paused, rolling, rollout)
        await asyncio.to_thread(rolling.must, "rollout", "abort", "rolled", "--reason", "compared")
        rollout = await asyncio.to_thread(declare, rolling, other, SHADOW)
        report = await asyncio.to_thread(ended, rolling, rollout)
        assert traffic.answered > 0
    seen = paused["revisions"][paused["target"]]
    assert seen["compared"] >= 80
    assert seen["disagreed"] == 0
    assert {check["name"]: check["verdict"] for check in paused["checks"]} == {"flips": "Pass", "drift": "Pass"}
    assert report["phase"] == "RolledBack"
    assert report["reason"].startswith("check flips failed: ")
    seen = report["revisions"][report["target"]]
    assert seen["disagreed"] == seen["compared"] > 0
    assert subject.counts[97] == 0
    metrics = rolling.admin("/metrics").decode()
    assert (
        f'shoal_rollout_disagreements_total{{endpoint="rolled",revision="{report["target"]}",role="target"}}' in metrics
    )


async def test_a_preview_answers_only_who_asks_for_it_until_it_takes_over(rolling: Cluster, subject: Subject):
    path = train(rolling, subject, 98)
    async with traffic_to(rolling, subject):
        rollout = await asyncio.to_thread(declare, rolling, path, PREVIEW)
        paused = await asyncio.to_thread(until_paused, rolling, rollout)
        active, target = paused["active"], paused["target"]
        always = await asyncio.to_thread(revisions_asked, rolling, "rolled", x_shoal_canary="always")
        never = await asyncio.to_thread(revisions_asked, rolling, "rolled", x_shoal_canary="never")
        named = await asyncio.to_thread(revisions_asked, rolling, "rolled", mm_revision=target)
        assert (always, never, named) == ({target}, {active}, {target})
        await asyncio.sleep(1.5)
        before = await asyncio.to_thread(status, rolling)
        subject.newest = 98
        await asyncio.to_thread(rolling.must, "rollout", "resume", "rolled", "--reason", "looks right")
        report = await asyncio.to_thread(ended, rolling, rollout)
        await asyncio.sleep(1)
    assert before["phase"] == "Paused"
    assert before["revisions"][active]["requests"] > 100, "what users get is measured beside the preview"
    assert before["revisions"][target]["requests"] == 2
    assert before["checks"][0]["verdict"] == "Pass"
    assert report["phase"] == "Succeeded"
    assert subject.counts[98] > 0
    subject.oldest = 98


def test_undo_goes_back_at_once(rolling: Cluster, subject: Subject):
    before = subject.revisions
    path = train(rolling, subject, 95)
    rollout = declare(rolling, path, CANARY)
    rolling.must("rollout", "promote", "rolled")  # there are no requests to judge it by
    assert ended(rolling, rollout)["phase"] == "Succeeded"
    active = rolling.status("rolled")["modelRevisionName"]
    assert active not in before.values()
    rolling.must("rollout", "undo", "rolled")
    report = status(rolling)
    assert report["phase"] == "Succeeded"
    assert report["ended"] - report["started"] < 2
    assert rolling.status("rolled")["modelRevisionName"] != active
    assert Path(rolling.root).exists()
