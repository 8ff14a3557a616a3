"""Training other than by a function: a program by Pipes, files from elsewhere, and pods as they would be made."""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import pytest
from dagster_k8s.pipes import build_pod_body
from sklearn.tree import DecisionTreeClassifier

import dagster as dg
from dagster_shoal.execution import ArtifactTrainer, PodTrainer, ScriptTrainer
from dagster_shoal.model import no_function
from support.dagster import definitions, failure, metadata, run, stump

# Dagster warns of a part of its own Pipes that it calls itself.
pytestmark = pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")
SCRIPT = Path(__file__).parents[1] / "dagster_train.py"
UP_TO_VALIDATION = ["training_data", "trained_model", "validated_model"]


def trained_by(trainer: object, state_dir: Path, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    model = stump(trainer=trainer, parameters={"depth": 1})
    return run(definitions(state_dir, model), instance, UP_TO_VALIDATION)


def test_program_trains_and_what_it_reports_is_on_the_asset(state_dir: Path, instance: dg.DagsterInstance):
    result = trained_by(ScriptTrainer([sys.executable, str(SCRIPT)], {"OMP_NUM_THREADS": "1"}), state_dir, instance)
    assert result.success
    shown = metadata(result, "trained_model")
    assert shown["depth"] == 1
    assert shown["arrays"] > 0
    assert shown["draft"]
    assert metadata(result, "validated_model")["accuracy"] > 0.9


def test_program_that_breaks_fails_the_run_with_its_own_words(state_dir: Path, instance: dg.DagsterInstance):
    result = trained_by(ScriptTrainer([sys.executable, str(SCRIPT), "--break"]), state_dir, instance)
    assert not result.success
    assert failure(result).error.cause.cls_name == "DagsterPipesExecutionError"


@pytest.mark.parametrize(
    ("trainer", "says"),
    [
        (ScriptTrainer([sys.executable, str(SCRIPT), "--nothing"]), "wrote no file to model_dir"),
        (ScriptTrainer(["/nowhere/python", "train.py"]), "training.command: /nowhere/python does not exist"),
        (ArtifactTrainer("/nowhere/model"), "training.path: there is no file at /nowhere/model"),
    ],
)
def test_training_that_gives_no_model_says_what_to_mend(
    state_dir: Path, instance: dg.DagsterInstance, trainer: object, says: str
):
    result = trained_by(trainer, state_dir, instance)
    assert not result.success
    assert says in failure(result).user_failure_data.description


@pytest.mark.parametrize("folder", [True, False])
def test_files_that_were_trained_elsewhere_are_taken(
    state_dir: Path, instance: dg.DagsterInstance, tmp_path: Path, folder: bool
):
    source = tmp_path / "exported"
    source.mkdir()
    joblib.dump(DecisionTreeClassifier().fit([[-1.0, 0.0], [7.0, 0.0]], [0, 1]), source / "model.joblib")
    (source / "notes").mkdir()
    (source / "notes" / "read.me").write_text("by hand")
    path = source if folder else source / "model.joblib"
    result = trained_by(ArtifactTrainer(str(path)), state_dir, instance)
    assert result.success
    shown = metadata(result, "trained_model")
    assert shown["dagster/uri"] == path.as_uri()
    files = {p.name for p in Path(shown["files"]).rglob("*") if p.is_file()}
    assert files == ({"model.joblib", "read.me"} if folder else {"model.joblib"})


def test_pod_is_what_kubernetes_takes():
    spec = {
        "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": "shoal-work"}}],
        "containers": [{"volumeMounts": [{"name": "work", "mountPath": "/work"}]}],
        "nodeSelector": {"gpu": "yes"},
    }
    trainer = PodTrainer("train:1", ["python", "train.py"], pod_spec=spec, env={"SEED": "1"})
    body = build_pod_body(
        pod_name="train",
        image=trainer.image,
        command=list(trainer.command),
        env_vars=dict(trainer.env),
        base_pod_meta=None,
        base_pod_spec=dict(trainer.pod_spec),
    )
    pod = body.to_dict()["spec"]
    (container,) = pod["containers"]
    assert (container["image"], container["command"]) == ("train:1", ["python", "train.py"])
    assert container["volume_mounts"][0]["mount_path"] == "/work"
    assert pod["node_selector"] == {"gpu": "yes"}
    assert pod["restart_policy"] == "Never"


def test_pod_client_looks_every_second(monkeypatch: pytest.MonkeyPatch):
    assert PodTrainer("train:1").client().poll_interval == 1.0


def test_function_in_place_of_a_trainer_is_never_called():
    with pytest.raises(TypeError, match="trainer of its own"):
        no_function()


def test_importing_the_package_does_not_import_kubernetes_launchers():
    import subprocess

    code = "import sys, dagster_shoal; print([m for m in sys.modules if m.startswith('dagster_k8s')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
