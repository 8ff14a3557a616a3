"""The example configuration for Kubernetes, made into manifests by dagster-k8s itself. No cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config, validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster._core.storage.dagster_run import DagsterRun
from dagster_k8s import K8sRunLauncher, construct_dagster_k8s_job, k8s_job_executor

import dagster as dg
from dagster_shoal.execution import PodTrainer

EXAMPLE = Path(__file__).parents[2] / "examples" / "dagster" / "kubernetes"


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLE / name).read_text())


def test_instance_is_valid():
    found = validate_config(dagster_instance_config_schema(), read("dagster.yaml"))
    assert found.success, found.errors
    assert read("dagster.yaml")["run_monitoring"]["free_slots_after_run_end_seconds"] > 0


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> K8sRunLauncher:
    """As an instance with the example's config would have it. Nothing listens at its cluster's address."""
    for name in ("DAGSTER_PG_HOST", "DAGSTER_PG_USER", "DAGSTER_PG_DB"):
        monkeypatch.setenv(name, f"the-{name}")
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    document = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
    (tmp_path / "kubeconfig").write_text(
        yaml.dump({**document, "users": [{"name": "u", "user": {}}], "current-context": "x"})
    )
    reach = {"load_incluster_config": False, "kubeconfig_file": str(tmp_path / "kubeconfig")}
    config = {**read("dagster.yaml")["run_launcher"]["config"], **reach}
    found = process_config(K8sRunLauncher.config_type(), config)
    assert found.success, found.errors
    return K8sRunLauncher(**found.value)


def test_run_becomes_a_job_that_is_not_tried_again(launcher: K8sRunLauncher):
    run = DagsterRun(job_name="rollout", run_id="1")
    context = launcher.get_container_context_for_run(run)
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(job_image="ours:1", run_launcher=launcher),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-1",
        pod_name="dagster-run-1",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    ).to_dict()
    assert job["spec"]["backoff_limit"] == 0
    pod = job["spec"]["template"]
    assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert pod["spec"]["service_account_name"] == "dagster-shoal-runs"
    assert pod["spec"]["restart_policy"] == "Never"
    (container,) = pod["spec"]["containers"]
    assert {"/work", "/keys"} <= {mount["mount_path"] for mount in container["volume_mounts"]}
    env = {entry["name"]: entry for entry in container["env"]}
    assert env["DAGSTER_PG_HOST"]["value"] == "the-DAGSTER_PG_HOST"
    assert env["DAGSTER_PG_PASSWORD"]["value_from"]["secret_key_ref"]["name"] == "dagster-postgresql-secret"


def test_steps_config_is_what_the_executor_takes():
    @dg.op
    def trained_model() -> None:
        """A step."""

    @dg.job(executor_def=k8s_job_executor)
    def retrain() -> None:
        trained_model()

    assert dg.validate_run_config(retrain, read("steps.yaml"))


def test_service_account_of_the_rights_is_the_one_that_runs_have():
    documents = list(yaml.safe_load_all((EXAMPLE / "rbac.yaml").read_text()))
    account = read("dagster.yaml")["run_launcher"]["config"]["service_account_name"]
    (made,) = [d for d in documents if d["kind"] == "ServiceAccount"]
    assert made["metadata"]["name"] == account
    for binding in (d for d in documents if d["kind"] == "RoleBinding"):
        assert binding["subjects"][0]["name"] == account


def test_code_location_loads(monkeypatch: pytest.MonkeyPatch):
    for name in ("S3_ACCESS_KEY", "S3_SECRET_KEY"):
        monkeypatch.setenv(name, "x")
    spec = importlib.util.spec_from_file_location("kubernetes_example", EXAMPLE / "definitions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.IN_A_POD, PodTrainer)
    defs = module.defs()
    defs = defs if isinstance(defs, dg.Definitions) else defs(None)
    dg.Definitions.validate_loadable(defs)
    names = {sensor.name for sensor in defs.sensors or ()}
    assert names == {"new_packages", "rollout_mirror", "abandoned_rollouts_canceled"}
