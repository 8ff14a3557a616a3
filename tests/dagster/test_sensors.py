"""Sensors as functions: what a tick asks for, what it remembers, and that it is bounded. No cluster."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dagster as dg
from dagster_shoal import LocalModelStore, ModelAssets, ShoalResource, build_model_assets
from dagster_shoal.sensors import Decline, Reading, drift_sensor, from_rollouts, new_data_sensor, new_packages_sensor
from dagster_shoal.sensors.bounds import MetricBounds, in_turn, parsed
from dagster_shoal.sensors.data import Fingerprints
from dagster_shoal.sensors.metrics import ModelStanding
from dagster_shoal.sensors.mirror import standing
from shoal.client import RevisionReport, RolloutReport, ShoalClient
from shoal.package import publish
from shoal.package.build import build
from shoal.package.keys import load_signing
from support.dagster import stump

NAMES = ("apple", "birch", "cedar")


def partitioned(*names: str) -> list[ModelAssets]:
    return build_model_assets([stump(name) for name in names])


def publish_package(state_dir: Path, model: str, content: str) -> str:
    """A package as somebody else would publish it; its digest."""
    source = state_dir / "source"
    source.mkdir(exist_ok=True)
    (source / "model.txt").write_text(content)
    output = state_dir / "packages" / f"{model}-{content}"
    output.parent.mkdir(exist_ok=True)
    package = build(source, output, format="sklearn")
    store = LocalModelStore(state_dir=str(state_dir)).open()
    publish.publish(output, store, model, key=load_signing(state_dir / "keys" / "signing.pem"))
    return package.digest


class Ticks:
    """A sensor that is asked again and again, as the daemon does."""

    def __init__(self, sensor: dg.SensorDefinition, instance: dg.DagsterInstance, **resources: Any) -> None:
        self.sensor = sensor
        self.instance = instance
        self.resources = resources
        self.cursor: str | None = None

    def tick(self) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=self.resources)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult), result
        self.cursor = result.cursor
        for request in result.dynamic_partitions_requests or ():
            self.instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        return result


def asked(result: dg.SensorResult) -> list[str]:
    return [str(request.run_key) for request in result.run_requests or ()]


# --- new packages ----------------------------------------------------------------------------------------------------


@pytest.fixture
def packages(state_dir: Path, instance: dg.DagsterInstance) -> Ticks:
    return Ticks(
        new_packages_sensor(partitioned(*NAMES)), instance, model_store=LocalModelStore(state_dir=str(state_dir))
    )


def test_new_package_becomes_a_partition_and_a_rollout_in_one_tick(packages: Ticks, state_dir: Path):
    assert asked(packages.tick()) == []
    digest = publish_package(state_dir, "birch", "one")
    result = packages.tick()
    (request,) = result.run_requests or ()
    assert (request.job_name, request.partition_key) == ("rollout", "birch")
    assert request.tags["shoal/model"] == "birch"
    assert request.run_config["ops"]["roll_out"]["config"]["version"] == digest
    (added,) = result.dynamic_partitions_requests or ()
    assert list(added.partition_keys) == ["birch"]
    assert asked(packages.tick()) == [], "once is enough"
    publish_package(state_dir, "birch", "two")
    assert len(asked(packages.tick())) == 1


def test_what_is_there_already_is_not_rolled_out(packages: Ticks, state_dir: Path):
    publish_package(state_dir, "birch", "one")
    first = packages.tick()
    assert asked(first) == []
    assert first.dynamic_partitions_requests, "but it becomes a partition"


def test_what_is_there_already_is_rolled_out_if_asked(state_dir: Path, instance: dg.DagsterInstance):
    publish_package(state_dir, "birch", "one")
    store = LocalModelStore(state_dir=str(state_dir))
    ticks = Ticks(new_packages_sensor(partitioned(*NAMES), existing="roll_out"), instance, model_store=store)
    assert len(asked(ticks.tick())) == 1


def test_own_packages_and_unknown_models_are_left_alone(packages: Ticks, state_dir: Path, instance: dg.DagsterInstance):
    packages.tick()
    digest = publish_package(state_dir, "birch", "one")
    publish_package(state_dir, "nobody-knows", "one")
    instance.add_dynamic_partitions("models", ["birch"])
    instance.report_runless_asset_event(
        dg.AssetMaterialization("published_model", partition="birch", metadata={"digest": digest})
    )
    assert asked(packages.tick()) == []


def test_broken_package_does_not_stop_the_others(packages: Ticks, state_dir: Path):
    packages.tick()
    publish_package(state_dir, "apple", "one")
    publish_package(state_dir, "birch", "one")
    (manifest,) = (state_dir / "pvcs" / "models" / "apple").glob("*/shoal-package.json")
    manifest.chmod(0o644)
    manifest.write_text("{")
    assert [key.split(":")[0] for key in asked(packages.tick())] == ["birch"]


def test_store_that_is_away_skips_the_tick(state_dir: Path, instance: dg.DagsterInstance):
    sensor = new_packages_sensor(partitioned(*NAMES))
    (state_dir / "pvcs").mkdir()
    (state_dir / "pvcs" / "models").mkdir()
    (state_dir / "pvcs" / "models" / "sub").write_text("a file where a folder is looked for")
    store = LocalModelStore(state_dir=str(state_dir), prefix="sub")
    result = sensor(dg.build_sensor_context(instance=instance, resources={"model_store": store}))
    assert isinstance(result, dg.SkipReason | dg.SensorResult)
    assert not getattr(result, "run_requests", None)


def test_volume_that_is_not_mounted_for_a_while_does_not_make_all_packages_new(packages: Ticks, state_dir: Path):
    publish_package(state_dir, "apple", "zero")
    packages.tick()
    volume, elsewhere = state_dir / "pvcs" / "models", state_dir / "elsewhere"
    volume.rename(elsewhere)
    context = dg.build_sensor_context(instance=packages.instance, cursor=packages.cursor, resources=packages.resources)
    skipped = packages.sensor(context)
    assert isinstance(skipped, dg.SkipReason)
    assert "it is empty, and held packages before; is its volume mounted?" in str(skipped.skip_message)
    volume.rmdir()
    elsewhere.rename(volume)
    assert asked(packages.tick()) == []


def test_tick_is_bounded_and_the_next_goes_on(state_dir: Path, instance: dg.DagsterInstance):
    store = LocalModelStore(state_dir=str(state_dir))
    sensor = new_packages_sensor(partitioned(*NAMES), bounds=MetricBounds(requests=2))
    ticks = Ticks(sensor, instance, model_store=store)
    publish_package(state_dir, "apple", "zero")
    ticks.tick()
    for name in NAMES:
        publish_package(state_dir, name, "one")
    assert [key.split(":")[0] for key in asked(ticks.tick())] == ["birch", "cedar"]
    assert [key.split(":")[0] for key in asked(ticks.tick())] == ["apple"]


def test_models_with_assets_of_their_own_get_their_own_job(state_dir: Path, instance: dg.DagsterInstance):
    models = build_model_assets([stump("apple"), stump("b-irch")], layout="assets")
    ticks = Ticks(new_packages_sensor(models), instance, model_store=LocalModelStore(state_dir=str(state_dir)))
    ticks.tick()
    publish_package(state_dir, "b-irch", "one")
    (request,) = ticks.tick().run_requests or ()
    assert (request.job_name, request.partition_key) == ("b_irch__rollout", None)
    assert "b_irch__roll_out" in request.run_config["ops"]


# --- new data --------------------------------------------------------------------------------------------------------


def test_changed_data_retrains_and_the_first_look_only_takes_note(instance: dg.DagsterInstance):
    instance.add_dynamic_partitions("models", list(NAMES))
    data = dict.fromkeys(NAMES, "monday")
    ticks = Ticks(new_data_sensor(partitioned(*NAMES), lambda model: data[model.name]), instance)
    assert asked(ticks.tick()) == []
    data["cedar"] = "tuesday"
    (request,) = ticks.tick().run_requests or ()
    assert (request.job_name, request.partition_key, request.run_key) == ("retrain", "cedar", "cedar:tuesday")
    assert asked(ticks.tick()) == []


def test_fingerprint_that_fails_concerns_its_model_only(instance: dg.DagsterInstance):
    instance.add_dynamic_partitions("models", list(NAMES))
    data: dict[str, str | None] = {"apple": None, "birch": "monday"}
    ticks = Ticks(new_data_sensor(partitioned(*NAMES), lambda model: data[model.name]), instance)
    ticks.tick()
    data.update(birch="tuesday", cedar="monday")
    assert asked(ticks.tick()) == ["birch:tuesday"]


def test_models_that_are_gone_are_forgotten(instance: dg.DagsterInstance):
    instance.add_dynamic_partitions("models", list(NAMES))
    ticks = Ticks(new_data_sensor(partitioned(*NAMES), lambda _: "monday"), instance)
    ticks.tick()
    instance.delete_dynamic_partition("models", "apple")
    ticks.tick()
    assert set(json.loads(ticks.cursor or "")["known"]) == {"birch", "cedar"}


# --- drift -----------------------------------------------------------------------------------------------------------

BAD, GOOD, FEW = Reading(0.5, 1000), Reading(0.01, 1000), Reading(0.9, 10)
DECLINE = Decline(above=0.1, min_samples=100, ticks=3, again_after=600)


def verdicts_of(readings: list[Reading | None], decline: Decline = DECLINE, step: float = 60.0) -> list[bool]:
    how, found = ModelStanding(), []
    for index, reading in enumerate(readings):
        how, fires = decline.judge(reading, how, 1e9 + index * step)
        found.append(fires)
    return found


@pytest.mark.parametrize(
    ("readings", "fires"),
    [
        ([BAD] * 3, [False, False, True]),
        ([BAD, BAD, GOOD, BAD, BAD], [False] * 5),
        ([BAD, FEW, BAD, None, BAD], [False, False, False, False, True]),
        ([FEW] * 5, [False] * 5),
        ([BAD, BAD, Reading(float("nan"), 1000), BAD], [False, False, False, True]),
        ([BAD] * 12, [False, False, True] + [False] * 9),
        ([BAD] * 13, [False, False, True] + [False] * 9 + [True]),
    ],
)
def test_decline_needs_samples_patience_and_a_pause(readings: list[Reading | None], fires: list[bool]):
    assert verdicts_of(readings) == fires


def test_low_scores_are_a_decline_too():
    assert verdicts_of([Reading(0.6, 1000)], Decline(below=0.7, ticks=1)) == [True]


@pytest.mark.parametrize("wrong", [{}, {"above": 1, "ticks": 0}, {"above": 1, "min_samples": 0}])
def test_decline_that_says_nothing_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=r"above|at least"):
        Decline(**wrong)


def a_kubeconfig(root: Path) -> ShoalResource:
    """A cluster that nobody is asked about: the source is the test's own."""
    user = {"name": "u", "user": {}}
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    document = {"apiVersion": "v1", "kind": "Config", "users": [user], "clusters": [cluster], "contexts": [context]}
    (root / "kubeconfig").write_text(json.dumps({**document, "current-context": "x"}))
    return ShoalResource(state_dir=str(root))


def test_drift_retrains_the_model_whose_figure_is_bad(tmp_path: Path, instance: dg.DagsterInstance):
    instance.add_dynamic_partitions("models", list(NAMES))
    readings = {"apple": GOOD, "birch": BAD, "nobody": BAD}

    def source(client: ShoalClient) -> dict[str, Reading]:
        return readings

    sensor = drift_sensor(partitioned(*NAMES), source, Decline(above=0.1, ticks=2), name="errors")
    ticks = Ticks(sensor, instance, shoal=a_kubeconfig(tmp_path))
    assert asked(ticks.tick()) == []
    (request,) = ticks.tick().run_requests or ()
    assert (request.job_name, request.partition_key) == ("retrain", "birch")
    assert request.tags["shoal/because"] == "errors"
    assert set(json.loads(ticks.cursor or "")["of"]) == {"birch"}, "only who is worth it is remembered"
    assert asked(ticks.tick()) == []


def test_mesh_that_is_away_skips_the_tick(tmp_path: Path, instance: dg.DagsterInstance):
    sensor = drift_sensor(partitioned(*NAMES), from_rollouts("error_rate"), DECLINE)
    resources = {"shoal": a_kubeconfig(tmp_path)}
    result = sensor(dg.build_sensor_context(instance=instance, resources=resources))
    assert isinstance(result, dg.SkipReason)
    assert "does not answer" in str(result.skip_message)


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_time_bounds_a_tick_and_the_next_goes_on():
    clock = iter(range(100))
    assert list(in_turn(NAMES, "", MetricBounds(seconds=2.5), lambda: next(clock))) == ["apple", "birch"]
    assert list(in_turn(NAMES, "birch", MetricBounds(models=2))) == ["cedar", "apple"]
    assert list(in_turn(NAMES, "zoo", MetricBounds())) == list(NAMES)


@pytest.mark.parametrize("wrong", [{"seconds": 50}, {"seconds": 0}, {"requests": 0}, {"models": 0}])
def test_bounds_that_a_tick_cannot_have_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=r"must be|not between"):
        MetricBounds(**wrong)


@pytest.mark.parametrize("text", [None, "", "nonsense", '{"known": 3}', "[]"])
def test_cursor_of_another_version_begins_anew(text: str | None):
    assert parsed(Fingerprints, text) == Fingerprints()


def test_figures_of_a_rollout_are_believed_for_an_hour_after_it():
    figures = RevisionReport(requests=900, errors=90, error_rate=0.1)
    report = RolloutReport(name="a", id="a-1", phase="RolledBack", active="old", target="new", ended=100.0)
    report = report.model_copy(update={"revisions": {"old": figures}})

    def client(now: float) -> Any:
        return SimpleNamespace(rollouts=lambda: [report.model_copy(update={"now": now})])

    assert from_rollouts("error_rate")(client(3600.0)) == {"a": Reading(0.1, 900)}
    assert from_rollouts("error_rate")(client(3701.0)) == {}


def test_mirror_shows_changes_and_now_and_then_figures():
    live = RolloutReport(name="a", id="a-1", phase="Progressing", weight=10, step=1, started=100.0, now=105.0)
    assert standing(live) == standing(live.model_copy(update={"now": 110.0}))
    for change in ({"now": 135.0}, {"weight": 50.0}, {"step": 2}, {"phase": "Paused"}):
        assert standing(live) != standing(live.model_copy(update=change))
    ended = live.model_copy(update={"phase": "RolledBack", "weight": 0.0})
    assert standing(ended) == standing(ended.model_copy(update={"now": 999.0}))
