"""Trains by a program of its own, through Dagster Pipes: another Python, other libraries, or no Python at all.

The program finds in its Pipes extras `data` (an .npz file), `model_dir` (an empty folder for the files that the model
server loads) and `parameters`; what it reports by `report_asset_materialization` is shown on the asset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shoal.model import Parameters


@dataclass(frozen=True)
class ScriptTrainer:
    """A subprocess of the run.

    ScriptTrainer(["/envs/fraud/bin/python", "train_fraud.py"], cwd="/srv/fraud")
    """

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    """Beside the run's own environment."""
    cwd: str | None = None

    def run(
        self, context: dg.AssetExecutionContext, *, data: Path, into: Path, parameters: Parameters
    ) -> Mapping[str, Any]:
        """See `Trainer.run`.

        Raises:
            DagsterPipesExecutionError: the program failed.
            Failure: it could not be started, or wrote no file.
        """
        client = dg.PipesSubprocessClient(env=dict(self.env), cwd=self.cwd)
        extras = extras_of(data, into, parameters)
        try:
            done = client.run(context=context, command=list(self.command), extras=extras)
        except FileNotFoundError as error:
            reason = f"training.command: {error.filename} does not exist; correct it"
            raise dg.Failure(reason, allow_retries=False) from None
        return reported(done, into)


def extras_of(data: Path, into: Path, parameters: Parameters) -> dict[str, Any]:
    """What a training program is told."""
    plain = json.loads(json.dumps(dict(parameters), default=str))
    return {"data": str(data), "model_dir": str(into), "parameters": plain}


def reported(done: dg.PipesClientCompletedInvocation, into: Path) -> dict[str, Any]:
    """What a training program reported of its asset.

    Raises:
        Failure: it left no file.
    """
    if not any(path.is_file() for path in into.rglob("*")):
        reason = f"training: the program ended well but wrote no file to model_dir, {into}; write the model there"
        raise dg.Failure(reason, allow_retries=False)
    shown: dict[str, Any] = {}
    for result in done.get_results(implicit_materializations=False):
        shown |= dict(result.metadata or {})
    return shown
