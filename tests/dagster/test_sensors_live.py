"""Sensors that ask a real mesh: rollouts that others start, and rollouts whose run was lost."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from dagster._core.storage.dagster_run import DagsterRun

import dagster as dg
from dagster_shoal import ShoalResource, build_model_assets
from dagster_shoal.sensors import (
    Decline,
    SourceError,
    abandoned_rollout_sensors,
    drift_sensor,
    from_prometheus,
    from_rollouts,
    rollout_mirror_sensor,
)
from needs import need
from shoal.client import NotFound, ShoalClient
from support.dagster import Traffic, definitions, run, stump
from support.e2e import Cluster, free_port
from waiting import eventually

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
    cluster: Cluster, published: list[dict[str, Any]], instance: dg.DagsterInstance, tmp_path: Path
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

        with prometheus(cluster, tmp_path) as url:
            _live_figures_by_prometheus(url, client)
        unread = drift_sensor(models, from_prometheus(url, "up", "up"), Decline(above=0.0))
        skipped = unread(dg.build_sensor_context(instance=instance, resources={"shoal": shoal}))
        assert isinstance(skipped, dg.SkipReason)
        assert f"no figures: {url} does not answer" in str(skipped.skip_message)

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


ERRORS = "sum by (endpoint) (shoal_rollout_errors_total) / sum by (endpoint) (shoal_rollout_requests_total)"
REQUESTS = "sum by (endpoint) (shoal_rollout_requests_total)"


def _live_figures_by_prometheus(url: str, client: ShoalClient) -> None:
    read = from_prometheus(url, ERRORS, REQUESTS)
    reading = eventually(lambda: read(client).get(NAME), "Prometheus has the mesh's figures of the model", 30)
    assert reading.value == 0.0
    assert reading.samples >= 20
    for query, label, says in (
        ("sum by (", "endpoint", "query: .*unclosed left parenthesis"),
        ("1", "endpoint", "query: gives a scalar, not one series a model"),
        (ERRORS, "isvc", "query: no series has the label 'isvc'; its labels are endpoint"),
    ):
        with pytest.raises(SourceError, match=says):
            from_prometheus(url, query, REQUESTS, label)(client)


@contextlib.contextmanager
def prometheus(cluster: Cluster, folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes the mesh through the Kubernetes API; its address."""
    need("prometheus")
    kubeconfig = yaml.safe_load((cluster.root / "kubeconfig").read_text())
    scrape = {
        "job_name": "mesh",
        "scheme": "https",
        "tls_config": {"insecure_skip_verify": True},
        "authorization": {"credentials": kubeconfig["users"][0]["user"]["token"]},
        "metrics_path": "/api/v1/namespaces/modelmesh-serving/services/shoal-mesh:admin/proxy/metrics",
        "static_configs": [{"targets": [kubeconfig["clusters"][0]["cluster"]["server"].removeprefix("https://")]}],
    }
    config, address = folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    output = (folder / "prometheus.log").open("w")
    process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=output, stderr=output)

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://{address}/-/ready", trust_env=False).is_success
        return False

    try:
        eventually(ready, "Prometheus is ready", 30)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(10)
        output.close()


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
