"""A code location for a cluster: digits, trained in a pod of their own, published to S3.

Runs are Jobs (`dagster.yaml` beside this), the steps of a run are in its one pod, and only training has another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import dagster as dg
from dagster_shoal import ModelAssets, S3ModelStore, ShoalResource, build_model_definitions
from dagster_shoal.example.digits import MODELS
from dagster_shoal.execution import PodTrainer
from dagster_shoal.schedules import retrain_schedules
from dagster_shoal.sensors import abandoned_rollout_sensors, new_packages_sensor, rollout_mirror_sensor

IN_A_POD = PodTrainer(
    image="example.com/digits-train:1",
    command=["python", "-m", "digits_train"],
    namespace="dagster",
    pod_spec={
        "volumes": [{"name": "shoal-work", "persistentVolumeClaim": {"claimName": "shoal-work"}}],
        "containers": [
            {
                "volumeMounts": [{"name": "shoal-work", "mountPath": "/work"}],
                "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
            }
        ],
    },
)


def automation(models: Sequence[ModelAssets]) -> dg.Definitions:
    """Retrain every night, roll out what others publish, and show what others roll out."""
    return dg.Definitions(
        schedules=retrain_schedules(models, "H 3 * * *", "Europe/Berlin"),
        sensors=[new_packages_sensor(models), rollout_mirror_sensor(models), *abandoned_rollout_sensors()],
    )


@dg.definitions
def defs() -> dg.Definitions:
    """All of it."""
    return build_model_definitions(
        [dataclasses.replace(model, trainer=IN_A_POD) for model in MODELS],
        resources={
            "shoal": ShoalResource(in_cluster=True, gateway="http://modelmesh-serving.modelmesh-serving:8008"),
            "model_store": S3ModelStore(
                endpoint="http://minio.modelmesh-serving:9000",
                bucket="models",
                storage_key="localMinIO",
                access_key=dg.EnvVar("S3_ACCESS_KEY"),
                secret_key=dg.EnvVar("S3_SECRET_KEY"),
                signing_key="/keys/signing.pem",
                work_dir="/work",
            ),
        },
        automation=automation,
    )
