"""Rolls out a model that is on a claim as a canary, and then sends it a request.

Parameters of the run: the InferenceService, the claim and the model's path on it.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_shoal.hooks import ShoalHook
from airflow_provider_shoal.operators import ShoalRolloutOperator

with DAG(
    dag_id="shoal_rollout",
    schedule=None,
    catchup=False,
    tags=["shoal"],
    doc_md=__doc__,
    params={
        "name": Param("fraud", type="string", description="Name of the InferenceService."),
        "claim": Param("models", type="string", description="The PersistentVolumeClaim that has the model."),
        "path": Param("fraud/model.joblib", type="string", description="Of the model on the claim."),
        "input": Param([[0.0]], type="array", description="Rows to ask the model about afterwards."),
    },
) as dag:
    roll_out = ShoalRolloutOperator(
        task_id="roll_out",
        deferrable=True,
        reason="the DAG {{ dag.dag_id }} was run",
        manifest={
            "metadata": {"name": "{{ params.name }}"},
            "spec": {
                "predictor": {
                    "model": {
                        "modelFormat": {"name": "sklearn"},
                        "storage": {
                            "parameters": {"type": "pvc", "name": "{{ params.claim }}"},
                            "path": "{{ params.path }}",
                        },
                    }
                },
                "rollout": {
                    "strategy": "canary",
                    "steps": [{"setWeight": 20}, {"pause": {"duration": "2s"}}, {"setWeight": 60}],
                    "checks": [{"name": "errors", "metric": "errorRate", "max": 0.01}],
                    "deadline": "10m",
                },
            },
        },
    )

    @task
    def ask(params: dict[str, Any]) -> Any:
        """One request to the endpoint."""
        rows = params["input"]
        tensor = {"name": "predict", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": rows}
        with ShoalHook().get_conn() as client:
            return client.infer(params["name"], {"inputs": [tensor]})["outputs"]

    roll_out >> ask()
