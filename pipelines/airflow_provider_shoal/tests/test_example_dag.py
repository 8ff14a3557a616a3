"""The example DAG, run by Airflow: tasks, deferral, triggerer, XCom."""

from __future__ import annotations

from airflow_provider_shoal.example_dags.rollout import dag

from shoal.client import ShoalClient

CONF = {"name": "from-a-dag", "claim": "models", "input": [[0.0], [3.0]]}


def test_example_dag_rolls_out_twice(client: ShoalClient):
    for model in ("a.joblib", "b.joblib"):
        run = dag.test(run_conf={**CONF, "path": model})
        assert run is not None
        assert str(run.state) == "success"
        answers = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in run.get_task_instances()}
        assert answers["ask"][0]["data"] == [0, 1]
    report = client.rollout("from-a-dag")
    assert (report.phase, report.strategy) == ("Succeeded", "canary")
    assert report.by.startswith("airflow shoal_rollout.roll_out ")
    assert report.by.endswith(": the DAG shoal_rollout was run")
    assert answers["roll_out"]["rollout"] == report.id
