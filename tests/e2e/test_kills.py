"""Parts that are killed without a word: each is back by itself, and what it left serves again."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e_models import train_numbered
from e2e_traffic import FORMS, Subject, Traffic
from support.e2e import Cluster, kill, running, service
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]
MODELS = 4
SERVES_WITHIN = 30.0
"""Seconds from a kill to the first answer of an idle system."""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster to be hurt."""
    with running(tmp_path_factory.mktemp("fragile")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def subjects(fragile: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    """Models that are served."""
    folder = tmp_path_factory.mktemp("models")
    found = []
    for number in range(1, MODELS + 1):
        answers = train_numbered(folder / f"k{number}.joblib", number, 1, 100_000)
        found.append(Subject(f"k{number}", number, {1: answers}))
    fragile.must("pvc", "create", "kept", "--from", str(folder))
    manifests = [service(subject.name, f"{subject.name}.joblib", "kept") for subject in found]
    fragile.must("apply", "-f", "-", stdin="---\n".join(manifests))
    fragile.must("wait", "isvc", *(subject.name for subject in found), "--for", "Loaded", "--timeout", "90s")
    return found


async def all_answer(cluster: Cluster, subjects: list[Subject]) -> list[str]:
    """What went wrong when each model was asked in every form."""
    traffic = Traffic(cluster.grpc, cluster.rest, subjects)
    try:
        for subject, form in itertools.product(subjects, FORMS):
            await traffic.ask(subject, form, timeout=SERVES_WITHIN)
    finally:
        await traffic.close()
    return traffic.failures


def intact(cluster: Cluster, subjects: list[Subject]) -> bool:
    """Whether every status says that its model is ready, as it was."""
    for subject in subjects:
        status = cluster.status(subject.name)
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
        if not ready or status["modelRevisionName"] not in subject.revisions.values():
            return False
    return True


def holder(cluster: Cluster) -> str:
    """The address of a pod that has something loaded."""
    ips = cluster.pod_ips()
    return next(ips[copy["pod"]] for copy in cluster.copies() if copy["pod"] in ips)


def containers_of(kinds: tuple[str, ...]) -> Callable[[Cluster], list[int]]:
    def victims(cluster: Cluster) -> list[int]:
        ip = holder(cluster)
        found = cluster.containers()
        return [found[ip, kind] for kind in kinds]

    return victims


PARTS = ("gateway", "mesh", "apiserver")
VICTIMS: dict[str, Callable[[Cluster], list[int]]] = {
    "model server": containers_of(("server",)),
    "adapter": containers_of(("adapter",)),
    "pod": containers_of(("server", "adapter")),
    **{part: lambda cluster, part=part: [cluster.part(part)] for part in PARTS},
}


def replaced(cluster: Cluster, pids: list[int], containers: set[tuple[str, str]]) -> bool:
    """Whether the supervisor has others in place of the killed ones, and all is well again."""
    known = {cluster.part(part) for part in PARTS} | cluster.processes()
    return not known & set(pids) and cluster.ready() and set(cluster.containers()) == containers


@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_killed_part_is_back_and_an_idle_system_serves(fragile: Cluster, subjects: list[Subject], victim: str):
    assert await all_answer(fragile, subjects) == []
    containers = set(fragile.containers())
    pids = VICTIMS[victim](fragile)
    for pid in pids:
        kill(pid)
    killed = time.monotonic()

    eventually(lambda: replaced(fragile, pids, containers), f"the {victim} to be back")
    failures = await all_answer(fragile, subjects)
    assert failures == [], f"{time.monotonic() - killed:.1f} s after the kill"
    assert time.monotonic() - killed < SERVES_WITHIN + 30
    eventually(lambda: intact(fragile, subjects), "statuses as before")


@pytest.mark.parametrize("victim", ["model server", "adapter", "pod", "mesh"])
async def test_requests_go_on_while_it_is_killed(fragile: Cluster, subjects: list[Subject], victim: str):
    """Requests under way on the killed server are sent again; others wait until their model is loaded elsewhere."""
    traffic = Traffic(fragile.grpc, fragile.rest, subjects)
    playing = asyncio.create_task(traffic.play(itertools.cycle(subjects).__next__, 8, 40))
    try:
        await asyncio.sleep(2)
        containers = set(fragile.containers())
        pids = await asyncio.to_thread(VICTIMS[victim], fragile)
        for pid in pids:
            kill(pid)
        await playing
    finally:
        await traffic.close()
    assert traffic.failures == []
    assert traffic.answered >= 8 * 40 * 0.9
    eventually(lambda: replaced(fragile, pids, containers), f"the {victim} to be back")


def every_container_of(kinds: tuple[str, ...]) -> Callable[[Cluster], list[int]]:
    return lambda cluster: [pid for (_, kind), pid in cluster.containers().items() if kind in kinds]


EVERY: dict[str, Callable[[Cluster], list[int]]] = {
    "model servers": every_container_of(("server",)),
    "pods": every_container_of(("server", "adapter")),
}


@pytest.mark.parametrize("victims", EVERY)
async def test_requests_wait_while_every_server_of_the_runtime_is_gone(
    fragile: Cluster, subjects: list[Subject], victims: str
):
    """Nothing is left to send a request to: each waits, within its deadline, until its model is loaded again. A second
    kill hits the servers as soon as they are back, while they load."""
    assert await all_answer(fragile, subjects) == []
    busy = subjects[: MODELS // 2]
    traffic = Traffic(fragile.grpc, fragile.rest, subjects)
    playing = asyncio.create_task(traffic.play(itertools.cycle(busy).__next__, 30, 15))
    try:
        await asyncio.sleep(2)
        containers = set(fragile.containers())
        pids = await asyncio.to_thread(EVERY[victims], fragile)
        assert len({ip for ip, _ in containers}) == 2
        for pid in pids:
            kill(pid)
        asking = [asyncio.create_task(traffic.ask(subject, form)) for subject in subjects for form in FORMS]
        await asyncio.to_thread(eventually, lambda: fragile.copies(), "a model to be loaded again")
        pids += (second := await asyncio.to_thread(EVERY[victims], fragile))
        for pid in second:
            kill(pid)
        await asyncio.gather(*asking, playing)
    finally:
        await traffic.close()
    # An answer that has begun cannot be sent again: one may be cut off by each kill, if it hits between head and body.
    begun = [failure for failure in traffic.failures if "Response payload is not completed" in failure]
    assert [failure for failure in traffic.failures if failure not in begun] == []
    assert len(begun) <= 2
    assert traffic.answered >= 30 * 15 * 0.9
    eventually(lambda: replaced(fragile, pids, containers), f"the {victims} to be back")
    eventually(lambda: intact(fragile, subjects), "statuses as before")


async def test_a_killed_supervisor_leaves_nothing_and_up_brings_all_back(fragile: Cluster, subjects: list[Subject]):
    kill(int((fragile.root / "lock").read_text()))
    eventually(lambda: not fragile.processes(), "every process to end with it")
    content = {path.name: path.stat().st_size for path in (fragile.root / "pvcs" / "kept").iterdir()}
    assert len(content) == MODELS
    fragile.must("up", "--detach")
    names = [subject.name for subject in subjects]
    fragile.must("wait", "isvc", *names, "--for", "Ready", "--timeout", "60s")
    assert {path.name: path.stat().st_size for path in Path(fragile.root / "pvcs" / "kept").iterdir()} == content
    assert await all_answer(fragile, subjects) == []
    assert intact(fragile, subjects)
