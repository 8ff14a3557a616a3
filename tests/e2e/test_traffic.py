"""A minute of everything at once: four forms of requests, models that do not fit, and updates that never stop."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from e2e_models import train_numbered
from e2e_traffic import FORMS, Subject, Traffic
from speed import rate
from support.e2e import Cluster, running, service

pytestmark = [pytest.mark.server, pytest.mark.slow]
MODELS = 44
UPDATED = 4
"""The first so many models are updated over and over."""
HOT = 10
RARE_SHARE = 0.015
"""One request in sixty is for one of the other models, most of which were evicted since they were last used."""
PAD_BYTES = 1_500_000
POD_MEMORY = "148Mi"
"""128 MiB of it are the runtime's buffer: about ten models fit on a pod."""
SECONDS = 60.0
RATE = rate(220.0)
LEAST_RATE = rate(200.0)
UPDATE_PAUSE = 5.0


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose two pods hold two thirds of the models."""
    with running(tmp_path_factory.mktemp("crowded"), "--pod-memory", POD_MEMORY) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def subjects(crowded: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    """The models, declared in their first version."""
    folder = tmp_path_factory.mktemp("models")
    found = []
    for number in range(1, MODELS + 1):
        answers = train_numbered(file_of(folder, number, 1), number, 1, PAD_BYTES)
        found.append(Subject(f"m{number:02}", number, {1: answers}))
    crowded.must("pvc", "create", "many", "--from", str(folder))
    manifests = [service(subject.name, file_of(Path(), subject.number, 1).name, "many") for subject in found]
    crowded.must("apply", "-f", "-", stdin="---\n".join(manifests))
    crowded.must("wait", "isvc", *(subject.name for subject in found), "--for", "Ready", "--timeout", "90s")
    return found


def file_of(folder: Path, number: int, version: int) -> Path:
    return folder / f"m{number:02}-v{version}.joblib"


async def update(cluster: Cluster, subject: Subject) -> None:
    """A new version, applied as a user does; from when it is said to be loaded, the old one may not answer."""
    version = subject.newest + 1
    path = file_of(cluster.root / "pvcs" / "many", subject.number, version)
    subject.answers[version] = await asyncio.to_thread(train_numbered, path, subject.number, version, PAD_BYTES)
    manifest = service(subject.name, path.name, "many")
    subject.newest = version
    await asyncio.to_thread(cluster.must, "apply", "-f", "-", stdin=manifest)
    await asyncio.to_thread(cluster.must, "wait", "isvc", subject.name, "--for", "Ready", "--timeout", "60s")
    subject.oldest = max(subject.oldest, version)


async def keep_updating(cluster: Cluster, subject: Subject, stop: asyncio.Event) -> int:
    done = 0
    while not stop.is_set():
        await update(cluster, subject)
        done += 1
        await asyncio.sleep(UPDATE_PAUSE)
    return done


async def a_minute(cluster: Cluster, subjects: list[Subject]) -> tuple[Traffic, float, int]:
    hot, rare = subjects[:HOT], subjects[HOT:]
    traffic = Traffic(cluster.grpc, cluster.rest, subjects)
    stop = asyncio.Event()
    updating = [asyncio.create_task(keep_updating(cluster, subject, stop)) for subject in subjects[:UPDATED]]
    try:
        reached = await traffic.play(
            lambda: random.choice(rare if random.random() < RARE_SHARE else hot), SECONDS, RATE
        )
    finally:
        stop.set()
        updates = sum(await asyncio.gather(*updating))
        await traffic.close()
    return traffic, reached, updates


@pytest.mark.timeout(400)
async def test_a_minute_of_mixed_traffic_with_evictions_and_updates(crowded: Cluster, subjects: list[Subject]):
    before = crowded.top()
    for _ in range(2):
        traffic, reached, updates = await a_minute(crowded, subjects)
        p50, p99 = np.percentile(traffic.latencies, [50, 99]) * 1000
        print(
            f"\n{reached:.0f} requests/s, {dict(traffic.forms)}, {len(traffic.failures)} failed, p50 {p50:.1f} ms, "
            f"p99 {p99:.0f} ms, {updates} updates, load average {os.getloadavg()[0]:.1f}"
        )
        assert traffic.failures == [], Counter(failure.split(": ", 1)[1] for failure in traffic.failures)
        # Another program may have had the machine: then once more.
        if reached >= LEAST_RATE:
            break
    after = crowded.top()
    assert after["evictions"] - before["evictions"] >= rate(50)
    assert updates >= 10
    assert set(traffic.forms) == set(FORMS)
    assert {len(subject.revisions) > 1 for subject in subjects[:UPDATED]} == {True}
    assert reached >= LEAST_RATE, f"only {reached:.0f} requests/s; the machine's load is {os.getloadavg()}"
