"""Models and clusters in YAML: loaded in a sandbox, and by the `dg` command in a project of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster.components.testing.utils import create_defs_folder_sandbox

import dagster as dg
from dagster_shoal import LocalModelStore, S3ModelStore, ShoalClusterComponent, ShoalModelComponent, ShoalResource
from dagster_shoal.components.functions import import_function
from dagster_shoal.execution import ArtifactTrainer, PodTrainer, ScriptTrainer
from support.dagster import OFFLINE

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
DG = Path(sys.executable).with_name("dg")
MODEL: dict[str, Any] = {
    "name": "fraud-score",
    "data": "support.dagster.load",
    "evaluate": "support.dagster.evaluate",
    "training": {"type": "function", "function": "support.dagster:train"},
}


@contextmanager
def loaded(component: type[dg.Component], attributes: dict[str, Any]) -> Iterator[tuple[Any, dg.Definitions]]:
    contents = {"type": f"dagster_shoal.{component.__name__}", "attributes": attributes}
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=component, defs_yaml_contents=contents)
        with sandbox.load_component_and_build_defs(defs_path=path) as (loaded_component, defs):
            yield loaded_component, defs


def whole(defs: dg.Definitions) -> dg.Definitions:
    """With the resources that a cluster gives it."""
    return dg.Definitions.merge(
        defs, dg.Definitions(resources={"shoal": ShoalResource(), "model_store": LocalModelStore()})
    )


def example_of(component: type) -> dict[str, Any]:
    """The defs.yaml in a component's docstring."""
    return yaml.safe_load(textwrap.dedent((component.__doc__ or "").split("```yaml")[1].split("```")[0]))


def with_our_functions(attributes: dict[str, Any]) -> dict[str, Any]:
    return {**attributes, **{name: MODEL[name] for name in ("data", "evaluate", "training")}}


def test_model_in_the_documentation_loads():
    attributes = with_our_functions(example_of(ShoalModelComponent)["attributes"])
    with loaded(ShoalModelComponent, attributes) as (component, defs):
        graph = whole(defs).resolve_asset_graph()
        keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
        assert {key.split("/")[0] for key in keys} == {"fraud"}
        assert len(keys) == 7
        node = graph.get(dg.AssetKey(["fraud", "rollout"]))
        assert node.group_name == "risk"
        assert node.tags["stage"] == "rollout"
        assert {job.name for job in defs.jobs or ()} == {"fraud__retrain", "fraud__rollout"}
        (schedule,) = defs.schedules or ()
        minute, hour = schedule.cron_schedule.split()[:2]
        assert (0 <= int(minute) < 60, hour, schedule.execution_timezone) == (True, "3", "Europe/Berlin")
        assert component.metric_gates[0].min_absolute_change == -0.005
        assert component.budget.max_p99_ms == 30
        assert len(list(graph.asset_check_keys)) >= 9  # eight gates and the rollout's own


def test_rollout_in_yaml_is_the_default_of_the_launchpad():
    rollout = {"strategy": "shadow", "step_seconds": 5, "approval": True}
    with loaded(ShoalModelComponent, {**MODEL, "gates": list(OFFLINE), "rollout": rollout}) as (component, defs):
        form = component.rollout()
        assert (form.strategy, form.step_seconds, form.approval, form.min_samples) == ("shadow", 5.0, True, 100)
        ops = whole(defs).resolve_job_def("__ASSET_JOB").run_config_schema.config_type.fields["ops"].config_type
        fields = ops.fields["fraud_score__roll_out"].config_type.fields["config"].config_type.fields
        assert fields["strategy"].default_value == "shadow"


@pytest.mark.parametrize(
    ("training", "kind"),
    [
        ({"type": "script", "command": ["python", "train.py"], "env": {"A": "b"}}, ScriptTrainer),
        ({"type": "pod", "image": "train:1", "pod_spec": {"nodeSelector": {"gpu": "yes"}}}, PodTrainer),
        ({"type": "artifact", "path": "model.joblib"}, ArtifactTrainer),
    ],
)
def test_each_way_of_training(training: dict[str, Any], kind: type):
    with loaded(ShoalModelComponent, {**MODEL, "training": training}) as (component, _):
        trainer = component.training.trainer(Path("/defs/fraud"))
        assert isinstance(trainer, kind)
        if isinstance(trainer, ScriptTrainer):
            assert (trainer.cwd, trainer.env) == ("/defs/fraud", {"A": "b"})
        if isinstance(trainer, ArtifactTrainer):
            assert trainer.path == "/defs/fraud/model.joblib"


def test_texts_that_look_like_numbers_stay_texts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("THREADS", "4")
    pod = {"type": "pod", "image": "train:1", "pod_spec": {"containers": [{"resources": {"limits": {"cpu": "2"}}}]}}
    script = {"type": "script", "command": ["train", "--depth", "3"], "env": {"A": "1", "B": "{{ env.THREADS }}"}}
    with loaded(ShoalModelComponent, {**MODEL, "code_version": "1.10", "format_version": "1", "training": script}) as (
        component,
        _,
    ):
        assert (component.code_version, component.format_version) == ("1.10", "1")
        trainer = component.training.trainer(Path("/"))
        assert (trainer.command, trainer.env) == (["train", "--depth", "3"], {"A": "1", "B": "4"})
    with loaded(ShoalModelComponent, {**MODEL, "training": pod}) as (component, _):
        assert component.training.trainer(Path("/")).pod_spec == pod["pod_spec"]
    monkeypatch.setenv("KEY", "0123456789")
    store = {
        "type": "s3",
        "endpoint": "http://127.0.0.1:1",
        "bucket": "2026",
        "access_key": "12",
        "secret_key": "{{ env.KEY }}",
    }
    with loaded(ShoalClusterComponent, {"store": store}) as (cluster, _):
        assert (cluster.store.bucket, cluster.store.access_key) == ("2026", "12")
        assert cluster.store.secret_key == "0123456789"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"training": {"type": "telepathy"}}, "training"),
        ({"training": {"type": "function", "function": "support.dagster.nothing"}}, "has no function 'nothing'"),
        ({"data": "no_such_module.load"}, "there is no module 'no_such_module'"),
        ({"rollout": {"strategy": "sideways"}}, "strategy"),
        ({"rollout": {"weight": [1]}}, "weight"),
        ({"metric_gates": [{"metric": "auc"}]}, "threshold"),
        ({"gates": ["astrology"]}, "gates"),
        ({"schedule": {"cron": "daily"}}, "5: minute hour day"),
        ({"rollout": {"weights": [50, 10]}}, "rollout.weights: [50.0, 10.0] must rise"),
        ({"rollout": {"strategy": "immediate", "approval": True}}, "rollout.approval: "),
        ({"name": "My Model!"}, "name: 'My Model!' names no InferenceService; use lower-case letters"),
        ({"endpoint": "Bad_Name"}, "endpoint: 'Bad_Name'"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], says: str):
    with pytest.raises(Exception) as raised, loaded(ShoalModelComponent, {**MODEL, **change}):
        pass
    chain, error = [], raised.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    assert says in "\n".join(chain)


@pytest.mark.parametrize("dotted", ["train", "os.nothing", "os.path"])
def test_function_is_found_or_named(dotted: str):
    with pytest.raises(ValueError, match=r"^data: "):
        import_function(dotted, "data")


def test_cluster_in_the_documentation_loads(monkeypatch: pytest.MonkeyPatch):
    for name in ("KUBECONFIG", "S3_ACCESS_KEY", "S3_SECRET_KEY", "SLACK_WEBHOOK"):
        monkeypatch.setenv(name, f"the-{name}".lower())
    with loaded(ShoalClusterComponent, example_of(ShoalClusterComponent)["attributes"]) as (component, defs):
        assert isinstance(component.store, S3ModelStore)
        assert component.store.access_key == "the-s3_access_key"
        assert component.cluster.kubeconfig == "the-kubeconfig"
        assert {job.name for job in defs.jobs or ()} == {"approve", "abort", "rollback"}
        names = {sensor.name for sensor in defs.sensors or ()}
        assert names == {"abandoned_rollouts_canceled", "notify_success", "notify_failure", "notify_canceled"}
        dg.Definitions.validate_loadable(defs)


def test_cluster_of_this_machine_is_the_default():
    with loaded(ShoalClusterComponent, {}) as (component, defs):
        assert isinstance(component.store, LocalModelStore)
        assert set(defs.resources or {}) == {"shoal", "model_store"}


@pytest.mark.parametrize("store", [{"type": "tape"}, {"type": "s3"}, {"type": "local", "clam": "x"}])
def test_wrong_store_is_refused(store: dict[str, str]):
    with pytest.raises(Exception), loaded(ShoalClusterComponent, {"store": store}):  # noqa: B017
        pass


def test_model_and_cluster_make_one_code_location():
    with (
        loaded(ShoalModelComponent, MODEL) as (_, model),
        loaded(ShoalModelComponent, {**MODEL, "name": "churn"}) as (_, other),
        loaded(ShoalClusterComponent, {}) as (_, cluster),
    ):
        merged = dg.Definitions.merge(model, other, cluster)
        dg.Definitions.validate_loadable(merged)
        assert len(list(merged.resolve_asset_graph().get_all_asset_keys())) == 14


def dg_command(project: Path, *arguments: str, expect: int = 0) -> str:
    env = {
        **os.environ,
        "DAGSTER_HOME": "",
        "PYTHONPATH": os.pathsep.join((str(project / "src"), str(Path(__file__).parents[1]))),
        "PATH": os.pathsep.join((str(DG.parent), os.environ["PATH"])),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "DG_CLI_CONFIG": str(project / "none.toml"),
    }
    done = subprocess.run(
        [str(DG), *arguments], cwd=project, env=env, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout if expect == 0 else done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project as `create-dagster project` lays it out."""
    package = tmp_path / "src" / "shop"
    (package / "defs").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\n\n[tool.dg]\ndirectory_type = "project"\n\n'
        '[tool.dg.project]\nroot_module = "shop"\n\n'
        "[tool.dg.cli]\nsuppress_warnings = ['project_and_activated_venv_mismatch']\n"
    )
    (package / "__init__.py").write_text("")
    (package / "defs" / "__init__.py").write_text("")
    (package / "definitions.py").write_text(
        "from pathlib import Path\nimport dagster as dg\n\n@dg.definitions\ndef defs():\n"
        "    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_dg_scaffolds_checks_and_lists(project: Path):
    listed = dg_command(project, "list", "components", "--json")
    for name in ("ShoalModelComponent", "ShoalClusterComponent"):
        assert f"dagster_shoal.{name}" in json.dumps(json.loads(listed))
    dg_command(project, "scaffold", "defs", "dagster_shoal.ShoalClusterComponent", "cluster")
    dg_command(project, "scaffold", "defs", "dagster_shoal.ShoalModelComponent", "card_fraud")
    written = project / "src" / "shop" / "defs" / "card_fraud" / "defs.yaml"
    document = yaml.safe_load(written.read_text())
    assert document["attributes"]["name"] == "card-fraud"
    assert document["attributes"]["data"] == "shop.defs.card_fraud.functions.load_data"
    dg_command(project, "check", "yaml")
    dg_command(project, "check", "defs")
    found = json.loads(dg_command(project, "list", "defs", "--json"))
    assert "card_fraud/rollout" in json.dumps(found)
    document["attributes"]["rollout"]["strategy"] = "sideways"
    written.write_text(yaml.dump(document))
    assert "sideways" in dg_command(project, "check", "yaml", expect=1)
