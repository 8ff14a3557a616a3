"""The example configuration for Kubernetes, made into manifests by dagster-k8s itself. No cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from dagster._config import process_config, validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import DagsterK8sJobConfig, K8sRunLauncher, construct_dagster_k8s_job, k8s_job_executor
from dagster_k8s.job import UserDefinedDagsterK8sConfig

import dagster as dg
from dagster_shoal.execution import PodTrainer

EXAMPLE = Path(__file__).parents[2] / "examples" / "dagster" / "kubernetes"


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLE / name).read_text())


def test_instance_is_valid():
    found = validate_config(dagster_instance_config_schema(), read("dagster.yaml"))
    assert found.success, found.errors
    assert read("dagster.yaml")["run_monitoring"]["free_slots_after_run_end_seconds"] > 0


def test_run_becomes_a_job_that_is_not_tried_again():
    config = read("dagster.yaml")["run_launcher"]["config"]
    found = process_config(K8sRunLauncher.config_type(), config)
    assert found.success, found.errors
    fields = DagsterK8sJobConfig.config_type_run_launcher()
    known = {name: value for name, value in found.value.items() if name in fields and name != "run_k8s_config"}
    job_config = DagsterK8sJobConfig(
        **{name: value for name, value in known.items() if name in DagsterK8sJobConfig._fields},
    )
    user = UserDefinedDagsterK8sConfig.from_dict(
        {name: value for name, value in config["run_k8s_config"].items() if value}
    )
    job = construct_dagster_k8s_job(
        job_config=job_config,
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-1",
        user_defined_k8s_config=user,
        pod_name="dagster-run-1",
        component="run_worker",
    ).to_dict()
    assert job["spec"]["backoff_limit"] == 0
    pod = job["spec"]["template"]
    assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert pod["spec"]["service_account_name"] == "dagster-shoal-runs"
    assert pod["spec"]["restart_policy"] == "Never"


def test_launcher_takes_its_config():
    config = process_config(K8sRunLauncher.config_type(), read("dagster.yaml")["run_launcher"]["config"]).value
    launcher = K8sRunLauncher(
        **{**config, "load_incluster_config": False, "kubeconfig_file": None},
        k8s_client_batch_api=Mock(),
        k8s_client_core_api=Mock(),
    )
    assert launcher.job_namespace == "dagster"


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
