"""What the UI is given: names, groups, icons, checks, forms; and that nothing of it is deprecated."""

from __future__ import annotations

import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import dagster as dg
from dagster_shoal import MODELS, LocalModelStore, ShoalProps, ShoalResource, ShoalTranslator, Stage, rollout_form
from dagster_shoal.factory import build_model_assets, build_model_definitions
from dagster_shoal.stages import MODEL_TAG
from support.dagster import definitions, run, stump

ROOT = Path(__file__).parents[2]
ICONS = {"python", "scikitlearn", "xgboost", "lightgbm", "mlflow", "huggingface", "json", "s3", "kubernetes", "pytorch"}
"""Of those the UI has, the ones used here."""
ORDER = [stage.value for stage in Stage]


def keys(defs: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}


def test_one_definition_serves_all_models_by_partition(tmp_path: Path):
    defs = definitions(tmp_path, stump("a"), stump("b"))
    dg.Definitions.validate_loadable(defs)
    assert keys(defs) == set(ORDER)
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        assert graph.get(key).partitions_def == MODELS
    for check in graph.asset_check_keys:
        assert graph.get(check).partitions_def == MODELS


def test_assets_of_all_models_have_the_owners_of_all_and_the_code_version_they_share(tmp_path: Path):
    same = definitions(tmp_path, stump("a"), stump("b", owners=("team:tests", "ann@example.com")))
    rollout = same.resolve_asset_graph().get(dg.AssetKey("rollout"))
    assert list(rollout.owners) == ["ann@example.com", "team:tests"]
    assert rollout.code_version == "7"
    differing = definitions(tmp_path, stump("a"), stump("b", code_version="8"))
    assert differing.resolve_asset_graph().get(dg.AssetKey("rollout")).code_version is None


@pytest.mark.parametrize("layout", ["partitions", "assets"])
def test_nothing_deprecated_or_superseded_is_used(tmp_path: Path, layout: Any):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dg.Definitions.validate_loadable(definitions(tmp_path, layout=layout))


def test_assets_follow_each_other(tmp_path: Path):
    graph = definitions(tmp_path).resolve_asset_graph()
    for before, after in pairwise(ORDER):
        assert {k.to_user_string() for k in graph.get(dg.AssetKey(after)).parent_keys} == {before}


def test_each_model_may_have_keys_of_its_own(tmp_path: Path):
    model = stump("my-model", gates=("data",))
    defs = definitions(tmp_path, model, stump("other"), layout="assets")
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    rollout = graph.get(dg.AssetKey(["my_model", "rollout"]))
    assert rollout.partitions_def is None
    assert rollout.tags[MODEL_TAG] == "my-model"
    assert rollout.code_version == "7"
    assert list(rollout.owners) == ["team:tests"]
    jobs = {job.name: job for job in defs.resolve_all_job_defs()}
    assert jobs["my_model__rollout"].tags[MODEL_TAG] == "my-model"
    mine = {check.name for check in graph.asset_check_keys if check.asset_key.path[0] == "my_model"}
    assert mine == {"data", "promoted", "answers"}


def test_gates_are_blocking_checks_of_the_assets_they_judge(tmp_path: Path):
    graph = definitions(tmp_path).resolve_asset_graph()
    found: dict[str, set[str]] = {}
    for key in graph.asset_check_keys:
        if key.name not in ("promoted", "answers"):
            assert graph.get(key).blocking, key
        found.setdefault(key.asset_key.to_user_string(), set()).add(key.name)
    assert found == {
        "training_data": {"data"},
        "validated_model": {"metrics", "champion"},
        "model_package": {"schema", "scan", "signature", "golden_replay", "budget"},
        "rollout": {"promoted"},
        "serving_endpoint": {"answers"},
    }


def test_icons_exist_and_formats_have_theirs():
    translator = ShoalTranslator()
    for stage in Stage:
        for model in (None, stump(), stump(format="xgboost"), stump(format="onnx")):
            spec = translator.get_asset_spec(ShoalProps(stage, model))
            assert spec.kinds <= ICONS, spec.key
            assert len(spec.kinds) <= 3
    assert "scikitlearn" in translator.get_asset_spec(ShoalProps(Stage.TRAINED_MODEL, stump())).kinds


def test_a_translator_renames_everything_and_the_graph_holds(tmp_path: Path):
    class Ours(ShoalTranslator):
        def get_asset_spec(self, props: ShoalProps) -> dg.AssetSpec:
            spec = super().get_asset_spec(props)
            return spec.replace_attributes(key=spec.key.with_prefix("risk"), group_name="risk")

    defs = definitions(tmp_path, translator=Ours())
    graph = defs.resolve_asset_graph()
    assert keys(defs) == {f"risk/{name}" for name in ORDER}
    assert {graph.get(key).group_name for key in graph.get_all_asset_keys()} == {"risk"}
    assert {c.asset_key.path[0] for c in graph.asset_check_keys} == {"risk"}


def test_jobs_and_their_ops_have_different_names(tmp_path: Path):
    defs = definitions(tmp_path)
    names = {job.name for job in defs.resolve_all_job_defs()}
    assert {"retrain", "rollout", "rollback", "approve", "abort"} <= names
    assert {node.name for node in defs.resolve_job_def("rollout").graph.nodes} == {"roll_out", "serving_endpoint"}


@pytest.mark.parametrize("job", ["retrain", "rollout", "rollback", "approve", "abort"])
def test_jobs_run_in_one_process_since_a_process_a_step_costs_seconds(tmp_path: Path, job: str):
    assert definitions(tmp_path).resolve_job_def(job).executor_def is dg.in_process_executor


@pytest.mark.parametrize("job", ["retrain", "rollout"])
def test_runs_carry_their_model_for_limits_of_one_run_a_model(tmp_path: Path, job: str, instance: dg.DagsterInstance):
    found = definitions(tmp_path).resolve_job_def(job)
    assert found.get_tags_for_partition_key("stump", None)[MODEL_TAG] == "stump"


@pytest.mark.parametrize("job", ["rollback", "approve", "abort"])
def test_jobs_that_steer_wait_for_no_run_of_the_model(tmp_path: Path, job: str):
    found = definitions(tmp_path).resolve_job_def(job)
    assert found.partitions_def is None
    assert MODEL_TAG not in found.tags


def test_the_launchpad_shows_every_field_with_a_default(tmp_path: Path, instance: dg.DagsterInstance):
    config = definitions(tmp_path).resolve_job_def("rollout").get_run_config_for_partition_key("stump")
    form = config["ops"]["roll_out"]["config"]
    assert form["weights"] == [10.0, 50.0]
    assert None not in form.values()
    dg.validate_run_config(definitions(tmp_path).resolve_job_def("rollout"), config)


@pytest.mark.parametrize(
    "form", [{"strategy": "blue"}, {"weight": [1]}, {"approval": "yes"}, {"step_seconds": [1]}, {"on_conflict": ""}]
)
def test_the_launchpad_refuses_wrong_forms(tmp_path: Path, form: dict[str, Any]):
    job = definitions(tmp_path).resolve_job_def("rollout")
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job, {"ops": {"roll_out": {"config": form}}})


def test_bounds_hold_before_anything_is_done(state_dir: Path, instance: dg.DagsterInstance):
    """The launchpad does not know of bounds; so the step must find out first."""
    result = run(definitions(state_dir), instance, config={"roll_out": {"max_error_rate": 2.0}}, job="rollout")
    assert not result.success
    assert "max_error_rate" in str(result.all_events)
    assert instance.fetch_observations(dg.AssetKey("rollout"), limit=1).records == []


def test_two_models_of_one_name_are_refused():
    with pytest.raises(ValueError, match="names must differ"):
        build_model_assets([stump("a"), stump("a")])


def test_names_that_no_endpoint_can_have_are_refused():
    for name in ("Upper", "under_score", "", "9lives", "a" * 64, "ends-"):
        with pytest.raises(ValueError, match=f"name: {name!r} names no InferenceService"):
            stump(name)
    stump("a" * 63)


def test_a_form_whose_defaults_contradict_each_other_is_refused():
    with pytest.raises(ValueError, match=r"rollout_form: weights: .* must rise"):
        build_model_assets([stump()], rollout_form=rollout_form(weights=[50.0, 10.0]))


def test_keys_by_model_need_the_list_of_models():
    with pytest.raises(ValueError, match="give the list"):
        build_model_assets(lambda name: stump(name), layout="assets")


def test_missing_resources_are_named():
    with pytest.raises(ValueError, match="model_store is missing"):
        build_model_definitions([stump()], resources={"shoal": ShoalResource()})


def test_resources_take_values_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WHERE", str(tmp_path))
    seen = {}

    @dg.op
    def look(shoal: ShoalResource, model_store: LocalModelStore) -> None:
        seen.update(shoal=shoal.embedded, store=model_store.key_file)

    @dg.job(
        resource_defs={
            "shoal": ShoalResource(state_dir=dg.EnvVar("WHERE")),
            "model_store": LocalModelStore(state_dir=dg.EnvVar("WHERE")),
        }
    )
    def looking() -> None:
        look()

    assert looking.execute_in_process().success
    assert seen == {"shoal": tmp_path, "store": tmp_path / "keys" / "signing.pem"}


def test_the_workspace_loads_the_installed_example_by_module_name_from_anywhere(tmp_path: Path):
    entry = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    assert "working_directory" not in entry
    program = (
        f"import {entry['module_name']} as module, dagster as dg\n"
        "found = module.defs()\n"
        "dg.Definitions.validate_loadable(found)\n"
        "print(len(found.resolve_asset_graph().get_all_asset_keys()))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= len(ORDER)


def test_the_models_own_code_needs_no_dagster():
    program = "import shoal_digits, sys; assert 'dagster' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
