"""Sensors that ask a real mesh: rollouts that others start, and rollouts whose run was lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dagster._core.storage.dagster_run import DagsterRun

import dagster as dg
from dagster_shoal import ShoalResource, build_model_assets
from dagster_shoal.sensors import Decline, abandoned_rollout_sensors, drift_sensor, from_rollouts, rollout_mirror_sensor
from dagster_support import Traffic, definitions, run, stump
from e2e_support import Cluster, eventually
from shoal.client import NotFound, ShoalClient

pytestmark = pytest.mark.server
NAME = "watched"


@pytest.fixture(scope="module")
def published(cluster: Cluster) -> Iterator[list[dict[str, Any]]]:
    """Predictors of two packages of a model, of which the first one serves."""
    from shoal.package.package import find
    from shoal.package.predictor import predictor_for
    from shoal.package.publish import published_as

    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("models", [NAME])
        defs = definitions(cluster.root, stump(NAME))
        upto = ["training_data", "trained_model", "validated_model", "model_package", "published_model"]
        for seed in (0, 1):
            config = {"trained_model": {"parameters": {"seed": seed}}}
            assert run(defs, instance, upto, partition=NAME, config=config).success
        store = (defs.resources or {})["model_store"].open()
        predictors = [predictor_for(published_as(package, NAME)) for package in find(store, NAME)]
        assert len(predictors) == 2
        yield predictors


def manifest(predictor: dict[str, Any], **rollout: Any) -> dict[str, Any]:
    annotations = {"serving.kserve.io/deploymentMode": "ModelMesh", "shoal.dev/rollout-by": "ann with kubectl"}
    spec = {"strategy": "canary", "steps": [{"setWeight": 50}, {"pause": {}}], "keepRevisions": 0, **rollout}
    return {"metadata": {"name": NAME, "annotations": annotations}, "spec": {"predictor": predictor, "rollout": spec}}


def test_rollouts_of_others_are_shown_and_lost_ones_are_stopped(
    cluster: Cluster, published: list[dict[str, Any]], instance: dg.DagsterInstance
):
    instance.add_dynamic_partitions("models", [NAME])
    shoal = ShoalResource(state_dir=str(cluster.root))
    models = build_model_assets([stump(NAME)])
    mirror = rollout_mirror_sensor(models)
    cursor: str | None = None

    def look() -> list[Any]:
        nonlocal cursor
        result = mirror(dg.build_sensor_context(instance=instance, cursor=cursor, resources={"shoal": shoal}))
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        assert not result.run_requests
        return list(result.asset_events)

    with ShoalClient.from_state_dir(cluster.root) as client:
        item = client.apply(manifest(published[0]))
        client.wait_ready(NAME, item["metadata"]["generation"], 90)
        look()

        client.apply(manifest(published[1]))
        report = eventually(lambda: _paused(client), "the rollout waits for approval")
        (seen,) = look()
        assert isinstance(seen, dg.AssetObservation)
        assert (seen.partition, seen.metadata["weight"].value) == (NAME, 50.0)
        assert seen.metadata["by"].value == "ann with kubectl"
        assert look() == [], "nothing new, nothing shown"

        with Traffic(f"{cluster.rest}/v2/models/{NAME}/infer") as traffic:
            eventually(lambda: client.rollout(NAME).revisions[report.active].requests >= 20, "requests are counted")
        assert set(traffic.answers) == {200}
        assert from_rollouts("error_rate")(client)[NAME].value == 0.0
        drift = drift_sensor(models, from_rollouts("p99_ms"), Decline(above=0.0, min_samples=20, ticks=1))
        ask = drift(dg.build_sensor_context(instance=instance, resources={"shoal": shoal}))
        assert isinstance(ask, dg.SensorResult)
        assert [request.partition_key for request in ask.run_requests or ()] == [NAME]

        _lose_run(instance, shoal, report.id, "abort")
        assert client.rollout(NAME).phase == "RolledBack"
        observed, checked = look()
        assert isinstance(observed, dg.AssetObservation)
        assert isinstance(checked, dg.AssetCheckEvaluation)
        assert not checked.passed

        client.steer(NAME, "retry", report.id)
        again = eventually(lambda: _paused(client), "it is tried again")
        client.steer(NAME, "promote", again.id)
        eventually(lambda: not client.rollout(NAME).live, "it ends")
        events = look()
        made = [event for event in events if isinstance(event, dg.AssetMaterialization)]
        assert [event.partition for event in made] == [NAME]
        assert [event.passed for event in events if isinstance(event, dg.AssetCheckEvaluation)] == [True]


def _paused(client: ShoalClient) -> Any:
    try:
        report = client.rollout(NAME)
    except NotFound:
        return None
    return report if report.phase == "Paused" else None


def _lose_run(instance: dg.DagsterInstance, shoal: ShoalResource, rollout: str, verb: Any) -> None:
    """A run that followed the rollout is marked as cancelled from outside, and the sensor hears of it."""

    @dg.job(tags={"shoal/rollout-id": rollout})
    def following() -> None:
        """A run's stand-in: only its tag counts."""

    result = following.execute_in_process(instance=instance)
    (sensor,) = abandoned_rollout_sensors(on_canceled=verb)
    instance.report_run_canceled(DagsterRun(**_plain(result.dagster_run)))
    lost = instance.get_run_by_id(result.run_id)
    assert lost is not None
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor.name,
        dagster_instance=instance,
        dagster_run=lost,
        dagster_event=result.get_run_success_event(),
    )
    sensor(context, shoal=shoal)


def _plain(run: DagsterRun) -> dict[str, Any]:
    return {"job_name": run.job_name, "run_id": run.run_id, "tags": run.tags, "status": dg.DagsterRunStatus.STARTED}
