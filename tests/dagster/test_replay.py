"""The golden replay keeps to what it made itself: others' objects stay, two runs do not meet, leftovers go."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dagster as dg
from dagster_shoal import LocalModelStore, leftovers
from dagster_shoal import replay as replaying
from dagster_shoal.leftovers import RUN_LABEL, SCRATCH_LABEL, Scratch, sweep
from dagster_shoal.replay import replay
from rollout_cluster import service
from shoal.client import Refused, ShoalClient
from shoal.package.build import build
from shoal.package.package import open_directory
from shoal.package.samples import Sample, samples_of
from support.dagster import definitions, metadata, run, stump, verdicts
from support.e2e import Cluster
from waiting import eventually

UP_TO_PACKAGE = ["training_data", "trained_model", "validated_model", "model_package"]
NAME = "replayed"


@pytest.mark.parametrize("name", ["m", "x" * 63, f"{'a' * 35}-b"])
def test_names_of_scratch_objects_are_valid_bounded_and_never_the_same(name: str):
    run_id = str(uuid.uuid4())
    one, other = Scratch.of(run_id, name), Scratch.of(run_id, name)
    assert re.fullmatch(r"[a-z][-a-z0-9]{0,61}[a-z0-9]", one.name)
    assert "--" not in one.name
    assert {one.name, one.folder}.isdisjoint({other.name, other.folder})
    assert run_id[:8] in one.name
    assert one.folder.startswith(run_id)


@pytest.fixture
def client(cluster: Cluster) -> Iterator[ShoalClient]:
    """Of the cluster; whatever a test left there is removed."""
    with ShoalClient.from_state_dir(cluster.root) as found:
        yield found
        for item in found.isvcs():
            found.delete(item["metadata"]["name"])


@pytest.fixture
def replayed(cluster: Cluster, instance: dg.DagsterInstance) -> dg.Definitions:
    """A model with this gate only."""
    instance.add_dynamic_partitions("models", [NAME])
    return definitions(cluster.root, stump(NAME, gates=("golden-replay",)))


@pytest.fixture
def package(cluster: Cluster, instance: dg.DagsterInstance) -> Path:
    """The directory of a package that is to be tried."""
    instance.add_dynamic_partitions("models", [NAME])
    defs = definitions(cluster.root, stump(NAME, gates=()))
    draft = metadata(run(defs, instance, UP_TO_PACKAGE, partition=NAME), "model_package")["draft"]
    return cluster.root / "work" / NAME / "drafts" / draft / "package"


@pytest.fixture
def store(cluster: Cluster) -> LocalModelStore:
    """Of the cluster."""
    return LocalModelStore(state_dir=str(cluster.root))


def _scratch_files(cluster: Cluster) -> list[Path]:
    return list((cluster.root / "pvcs" / "models" / "scratch").glob("*"))


@pytest.mark.server
def test_a_service_of_a_user_that_is_called_like_the_gate_stays_as_it_is(
    replayed: dg.Definitions, instance: dg.DagsterInstance, client: ShoalClient, cluster: Cluster
):
    mine = client.apply(service(f"{NAME}-gate", 0))
    result = run(replayed, instance, UP_TO_PACKAGE, partition=NAME)
    assert verdicts(result)["golden_replay"]
    (left,) = client.isvcs()
    assert left["spec"] == mine["spec"]
    assert [left["metadata"][name] for name in ("uid", "generation")] == [
        mine["metadata"][name] for name in ("uid", "generation")
    ]
    assert _scratch_files(cluster) == []


@pytest.mark.server
def test_two_runs_of_a_model_do_not_disturb_each_other(
    replayed: dg.Definitions,
    instance: dg.DagsterInstance,
    client: ShoalClient,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
):
    """The second begins and ends while the first asks."""
    ask, others = replaying._ask, []

    def meanwhile(*arguments: Any) -> Any:
        if not others:
            others.append(thread := threading.Thread(target=second))
            thread.start()
            thread.join(timeout=120)
        return ask(*arguments)

    def second() -> None:
        with dg.DagsterInstance.ephemeral() as own:
            own.add_dynamic_partitions("models", [NAME])
            others.append(verdicts(run(replayed, own, UP_TO_PACKAGE, partition=NAME))["golden_replay"])

    monkeypatch.setattr(replaying, "_ask", meanwhile)
    result = run(replayed, instance, UP_TO_PACKAGE, partition=NAME)
    assert others[1:] == [True]
    assert verdicts(result)["golden_replay"]
    assert client.isvcs() == []
    assert _scratch_files(cluster) == []


@pytest.mark.server
def test_a_name_that_is_taken_is_refused_and_left_alone(
    package: Path, store: LocalModelStore, client: ShoalClient, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leftovers.secrets, "token_hex", lambda _: "abcdef")
    run_id = str(uuid.uuid4())
    mine = client.apply(service(Scratch.of(run_id, NAME).name, 0))
    with pytest.raises(Refused, match="already exists: it is not of this golden replay, and is left alone"):
        replay(client, package, store, stump(NAME), run_id)
    (left,) = client.isvcs()
    assert (left["metadata"]["uid"], left["spec"]) == (mine["metadata"]["uid"], mine["spec"])
    assert _scratch_files(cluster) == []


@pytest.mark.server
def test_what_somebody_put_in_its_place_meanwhile_is_not_deleted(
    package: Path, store: LocalModelStore, client: ShoalClient, monkeypatch: pytest.MonkeyPatch
):
    def replaced(client: ShoalClient, name: str, *_: Any) -> replaying.Replay:
        assert client.delete(name)
        client.apply(service(name, 0))
        return replaying.Replay(digest="", run="", problems=[], compared=0, requests=0, load_seconds=0)

    monkeypatch.setattr(replaying, "_ask", replaced)
    replay(client, package, store, stump(NAME), str(uuid.uuid4()))
    (left,) = client.isvcs()
    assert left["spec"] == service("any", 0)["spec"]


@pytest.mark.server
def test_a_replay_that_compared_nothing_did_not_pass(
    package: Path, store: LocalModelStore, client: ShoalClient, tmp_path: Path
):
    silent = [{"request": sample.request.model_dump()} for sample in _samples(package)]
    build(package / "model", tmp_path / "silent", format="sklearn", samples=samples_of(silent))
    found = replay(client, tmp_path / "silent", store, stump(NAME), str(uuid.uuid4()))
    assert found.problems == ["no sample says which answer is expected, so nothing was compared"]


def _samples(package: Path) -> list[Sample]:
    samples = open_directory(package).samples()
    assert samples is not None
    return samples.samples


_REPLAY = """
import pathlib, sys, time
import dagster_shoal.replay as replaying
from dagster_shoal import LocalModelStore
from support.dagster import stump
from shoal.client import ShoalClient
root, package, run = sys.argv[1:]
replaying._ask = lambda *_: time.sleep(600)
with ShoalClient.from_state_dir(root) as client:
    replaying.replay(client, pathlib.Path(package), LocalModelStore(state_dir=root), stump("replayed"), run)
"""


@pytest.mark.server
def test_what_a_killed_run_left_is_removed_once_it_is_over(
    package: Path, store: LocalModelStore, client: ShoalClient, cluster: Cluster, instance: dg.DagsterInstance
):
    run_id = str(uuid.uuid4())
    instance.add_run(dg.DagsterRun(job_name="retrain", run_id=run_id, status=dg.DagsterRunStatus.STARTED))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    victim = subprocess.Popen([sys.executable, "-c", _REPLAY, str(cluster.root), str(package), run_id], env=environment)
    try:
        (left,) = eventually(client.isvcs, "the replay has declared its service")
    finally:
        victim.kill()
        victim.wait(timeout=30)
    assert left["metadata"]["labels"] == {SCRATCH_LABEL: "true", RUN_LABEL: run_id}
    somebodys = _labelled("mine", {SCRATCH_LABEL: "true"}), _labelled("theirs", _of(str(uuid.uuid4())))
    kept = {client.apply(manifest)["metadata"]["name"] for manifest in somebodys}

    assert sweep(client, store, instance) == []
    assert {item["metadata"]["name"] for item in client.isvcs()} == {*kept, left["metadata"]["name"]}, "it goes on"
    (folder,) = _scratch_files(cluster)
    assert folder.name.startswith(run_id)

    found = instance.get_run_by_id(run_id)
    assert found is not None
    instance.report_run_failed(found)
    (theirs := folder.parent / f"{uuid.uuid4()}.abcdef").mkdir()
    assert sweep(client, store, instance) == []
    assert {item["metadata"]["name"] for item in client.isvcs()} == kept, "only ours are removed"
    assert _scratch_files(cluster) == [theirs]
    theirs.rmdir()


def _labelled(name: str, labels: dict[str, str]) -> dict[str, Any]:
    manifest = service(name, 0)
    return {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}


def _of(run_id: str) -> dict[str, str]:
    return {SCRATCH_LABEL: "true", RUN_LABEL: run_id}


@pytest.mark.server
def test_a_run_removes_what_an_earlier_one_left(
    replayed: dg.Definitions, client: ShoalClient, instance: dg.DagsterInstance
):
    run_id = str(uuid.uuid4())
    instance.add_run(dg.DagsterRun(job_name="retrain", run_id=run_id, status=dg.DagsterRunStatus.CANCELED))
    client.apply(_labelled("left-gate", _of(run_id)))
    assert verdicts(run(replayed, instance, UP_TO_PACKAGE, partition=NAME))["golden_replay"]
    assert client.isvcs() == []
