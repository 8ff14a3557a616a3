"""The champion and schema gates where the champion cannot be looked at: they have failed, and say why."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import dagster as dg
from dagster_shoal import LocalModelStore, ModelStore, S3ModelStore, ShoalResource, build_model_definitions
from dagster_shoal.model import Gate
from rollout_cluster import service
from shoal.client import ShoalClient
from shoal.package.keys import generate_keys
from strange_api import kubeconfig, strange_api
from support.dagster import OFFLINE, failure, run, stump, verdicts
from support.e2e import Cluster
from support.package import flip
from support.runtime_storage import s3_server

pytestmark = pytest.mark.server

UP_TO_PACKAGE = ["training_data", "trained_model", "validated_model", "model_package"]
COMPARING: tuple[Gate, ...] = ("champion", "schema")


@dataclass
class Champion:
    """A version of a model that serves, and where the next one looks for it."""

    name: str
    cluster: Cluster
    instance: dg.DagsterInstance
    tmp_path: Path
    cleanup: ExitStack

    def __post_init__(self) -> None:
        self.shoal = ShoalResource(state_dir=str(self.cluster.root))
        self.store: ModelStore = _local(self.cluster, self.tmp_path)

    @property
    def files(self) -> Path:
        """Its package's folder."""
        (package,) = (self.cluster.root / "pvcs" / "models" / self.name).glob("[0-9a-f]" * 12)
        return package

    def challenged(self, *gates: Gate) -> dg.ExecuteInProcessResult:
        """A run that makes a package of the next version."""
        defs = _definitions(self.name, self.shoal, self.store, gates)
        config = {"trained_model": {"parameters": {"seed": 7}}}
        return run(defs, self.instance, UP_TO_PACKAGE, partition=self.name, config=config)


def _local(cluster: Cluster, work: Path, **more: str) -> LocalModelStore:
    return LocalModelStore(state_dir=str(cluster.root), work_dir=str(work / "work"), **more)


def _definitions(name: str, shoal: ShoalResource, store: ModelStore, gates: tuple[Gate, ...]) -> dg.Definitions:
    return build_model_definitions([stump(name, gates=gates)], resources={"shoal": shoal, "model_store": store})


@pytest.fixture(scope="module")
def first(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A model whose first version serves; its name."""
    name = "champ"
    store = _local(cluster, tmp_path_factory.mktemp("first"))
    defs = _definitions(name, ShoalResource(state_dir=str(cluster.root)), store, (*OFFLINE, *COMPARING))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("models", [name])
        form = {"roll_out": {"strategy": "immediate"}}
        result = run(defs, instance, partition=name, config=form, job="retrain")
    assert result.success
    for gate in COMPARING:
        assert _said(result, gate) == f"InferenceService {name} does not exist yet, so there is nothing to compare with"
    yield name
    with ShoalClient.from_state_dir(cluster.root) as client:
        client.delete(name)


@pytest.fixture
def serving(
    first: str, cluster: Cluster, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Champion]:
    """A model whose first version serves; its package may be spoiled. Failed tries are repeated at once."""
    monkeypatch.setattr("dagster_shoal.steps._RETRY_SECONDS", 0)
    instance.add_dynamic_partitions("models", [first])
    with ExitStack() as cleanup:
        champion = Champion(first, cluster, instance, tmp_path, cleanup)
        package = champion.files
        shutil.copytree(package, tmp_path / "package")
        yield champion
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(tmp_path / "package", package)


def _said(result: dg.ExecuteInProcessResult, gate: str) -> str:
    (found,) = [each for each in result.get_asset_check_evaluations() if each.check_name == gate]
    return str(found.description)


def _package_is_gone(serving: Champion) -> None:
    shutil.rmtree(serving.files)


def _manifest_was_changed(serving: Champion) -> None:
    file = serving.files / "shoal-package.json"
    file.write_bytes(file.read_bytes().replace(b'"FP32"', b'"FP64"'))


def _signature_was_changed(serving: Champion) -> None:
    file = serving.files / "model.sig"
    data = file.read_bytes()
    file.write_bytes(flip(data, len(data) // 2, 0))


def _signature_is_gone(serving: Champion) -> None:
    (serving.files / "model.sig").unlink()


def _another_key_is_trusted(serving: Champion) -> None:
    key = generate_keys(serving.tmp_path / "other")
    serving.store = _local(serving.cluster, serving.tmp_path, trusted_key=str(key.public))


def _the_key_is_missing(serving: Champion) -> None:
    serving.store = _local(serving.cluster, serving.tmp_path, trusted_key="/nowhere/signing.pub")


def _s3(serving: Champion, **changes: str) -> None:
    folder = serving.tmp_path / "s3"
    (folder / "models").mkdir(parents=True)
    server = serving.cleanup.enter_context(s3_server(folder))
    settings = {"endpoint": server.url, "access_key": server.access, "secret_key": server.secret} | changes
    keys = serving.cluster.root / "keys"
    serving.store = S3ModelStore(
        bucket="models",
        region="us-east-1",
        signing_key=str(keys / "signing.pem"),
        work_dir=str(serving.tmp_path / "work"),
        **settings,
    )


def _store_is_down(serving: Champion) -> None:
    _s3(serving, endpoint="http://127.0.0.1:9")


def _credentials_are_wrong(serving: Champion) -> None:
    _s3(serving, secret_key="other")


def _store_is_another_one(serving: Champion) -> None:
    _s3(serving)


def _api_is_down(serving: Champion) -> None:
    serving.shoal = ShoalResource(kubeconfig=str(kubeconfig(serving.tmp_path, "http://127.0.0.1:9")))


def _api_knows_no_such_objects(serving: Champion) -> None:
    serving.shoal = ShoalResource(kubeconfig=str(serving.cleanup.enter_context(strange_api(serving.tmp_path))))


SPOILED: list[tuple[Callable[[Champion], None], str]] = [
    (_package_is_gone, "which is not in this store (any more); bring it back, check the store's settings, or "),
    (_manifest_was_changed, "was changed after it was written"),
    (_signature_was_changed, "if the package is as it should be, sign it: shoal package attest pvc://models/"),
    (_signature_is_gone, "serves, and the model is not signed; check `trusted_key`"),
    (_another_key_is_trusted, "check `trusted_key`"),
    (_the_key_is_missing, "/nowhere/signing.pub cannot be read"),
    (_store_is_down, "http://127.0.0.1:9 does not answer; check its address"),
    (_credentials_are_wrong, "check the credentials"),
    (_store_is_another_one, "which is not in this store (any more)"),
    (_api_is_down, "the Kubernetes API at http://127.0.0.1:9 does not answer"),
    (_api_knows_no_such_objects, "is this the API of a cluster with Shoal?"),
]


@pytest.mark.parametrize(("spoil", "cause"), SPOILED, ids=[spoil.__name__.strip("_") for spoil, _ in SPOILED])
def test_a_gate_that_cannot_look_has_failed(serving: Champion, spoil: Callable[[Champion], None], cause: str):
    spoil(serving)
    for gate in COMPARING:
        result = serving.challenged(gate)
        assert not result.success
        assert verdicts(result)[gate] is False
        said = _said(result, gate)
        assert said.startswith("could not look: ")
        assert cause in said
        made = {event.asset_key.path[0] for event in result.get_asset_materialization_events()}
        assert ("model_package" in made) is (gate == "schema"), "a failed gate stops what comes after it"


@pytest.mark.parametrize("gate", COMPARING)
def test_what_serves_without_being_a_package_is_not_taken_for_nothing(serving: Champion, gate: Gate):
    serving.name = f"by-hand-{gate}"
    serving.instance.add_dynamic_partitions("models", [serving.name])
    with ShoalClient.from_state_dir(serving.cluster.root) as client:
        client.apply(service(serving.name, 0))
        result = serving.challenged(gate)
        client.delete(serving.name)
    assert verdicts(result)[gate] is False
    assert "serves v0.joblib, which is no package: roll out what serves as a package, or" in _said(result, gate)


def test_a_champion_whose_files_were_changed_is_not_loaded(serving: Champion):
    file = serving.files / "model" / "model.joblib"
    data = file.read_bytes()
    file.write_bytes(flip(data, len(data) // 2, 0))
    result = serving.challenged("champion")
    assert not result.success
    assert "is not what was packed; publish the package again" in _said(result, "champion")


def test_a_store_that_is_back_in_time_costs_only_a_retry(serving: Champion, monkeypatch: pytest.MonkeyPatch):
    from shoal.package.errors import StoreUnavailable
    from shoal.package.stores.local import LocalStore

    read, away = LocalStore.read, iter([True, True])

    def sometimes(store: LocalStore, path: str, limit: int) -> bytes:
        if path.startswith(serving.name) and next(away, False):
            raise StoreUnavailable("away")
        return read(store, path, limit)

    monkeypatch.setattr(LocalStore, "read", sometimes)
    result = serving.challenged(*COMPARING)
    assert result.success
    assert all(verdicts(result).values())


def test_what_was_judged_by_looking_is_compared(serving: Champion):
    result = serving.challenged(*COMPARING)
    assert result.success
    assert _said(result, "champion") == "accuracy 1 against 1"
    assert _said(result, "schema") == "inputs and outputs fit the serving revision's"


def test_a_gate_that_could_not_look_stops_publishing_in_later_runs_too(serving: Champion):
    _package_is_gone(serving)
    assert not serving.challenged("schema").success
    defs = _definitions(serving.name, serving.shoal, serving.store, ("schema",))
    later = run(defs, serving.instance, ["published_model"], partition=serving.name)
    assert "schema: could not look: " in failure(later).user_failure_data.description
