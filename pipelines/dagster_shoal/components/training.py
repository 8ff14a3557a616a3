"""The ways a model comes to be, as YAML has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field

import dagster as dg
from dagster import ResolutionContext
from dagster_shoal.components.forms import STRICT, plain, validated
from dagster_shoal.components.functions import import_function
from dagster_shoal.execution import ArtifactTrainer, PodTrainer, ScriptTrainer
from dagster_shoal.model import Trainer, no_function


class Training(BaseModel):
    """One of the ways below."""

    model_config = STRICT

    def function_of(self) -> Callable[..., Any]:
        """What is called to train; where a trainer does it, something that is never called."""
        return no_function

    def trainer(self, folder: Path) -> Trainer | None:
        """What trains in a process of its own; None: the function is called. `folder`: of the component."""
        return None


class FunctionTraining(Training):
    """By a Python function, in the process of the run."""

    type: Literal["function"] = "function"
    function: str = Field(description="As package.module.function: (dataset, parameters) -> model.")

    def function_of(self) -> Callable[..., Any]:
        """The function. Raises ValueError if there is none."""
        return import_function(self.function, "training.function")


class ScriptTraining(Training):
    """By a program of its own on the run's machine, through Dagster Pipes."""

    type: Literal["script"] = "script"
    command: Sequence[str] = Field(min_length=1, description="Program and arguments; started beside defs.yaml.")
    env: Mapping[str, str] = Field(default_factory=dict, description="Beside the run's own environment.")

    def trainer(self, folder: Path) -> Trainer | None:
        """Runs the command in the component's folder."""
        return ScriptTrainer(list(self.command), dict(self.env), str(folder))


class PodTraining(Training):
    """In a Kubernetes pod of its own, through Dagster Pipes; it shares the store's `work_dir` with the run."""

    type: Literal["pod"] = "pod"
    image: str
    command: Sequence[str] = Field(default_factory=list, description="Empty: the image's.")
    namespace: str | None = None
    env: Mapping[str, str] = Field(default_factory=dict)
    pod_spec: Mapping[str, Any] = Field(default_factory=dict, description="Volumes, resources, node selectors.")
    start_seconds: float = Field(600.0, gt=0, description="Longest time until the pod runs.")

    def trainer(self, folder: Path) -> Trainer | None:
        """Starts the pod."""
        return PodTrainer(
            self.image,
            list(self.command),
            self.namespace,
            dict(self.env),
            dict(self.pod_spec),
            None,
            self.start_seconds,
        )


class ArtifactTraining(Training):
    """Elsewhere: the files are taken from a path."""

    type: Literal["artifact"] = "artifact"
    path: str = Field(description="A file, or a folder such as MLflow saves; relative to defs.yaml.")

    def trainer(self, folder: Path) -> Trainer | None:
        """Copies the files."""
        return ArtifactTrainer(str(folder / Path(self.path).expanduser()))


_Form: TypeAlias = Annotated[
    FunctionTraining | ScriptTraining | PodTraining | ArtifactTraining, Field(discriminator="type")
]


def _training(context: ResolutionContext, value: Any) -> Training:
    found: Training = validated(_Form, plain(context, value), "training")
    return found


TrainingChoice: TypeAlias = Annotated[
    Training, dg.Resolver(_training, model_field_type=_Form, description="How the model comes to be.")
]
