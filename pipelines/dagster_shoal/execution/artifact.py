"""Takes a model that was trained elsewhere: a file, or a folder such as MLflow saves."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_shoal.model import Parameters

MAX_BYTES = 50 * 1024**3


@dataclass(frozen=True)
class ArtifactTrainer:
    """Copies the files of a path of this machine, as they are when the asset is materialized.

    ArtifactTrainer("/models/fraud/latest")
    """

    path: str

    def run(
        self, context: dg.AssetExecutionContext, *, data: Path, into: Path, parameters: Parameters
    ) -> Mapping[str, Any]:
        """See `Trainer.run`; `data` and `parameters` are not used.

        Raises:
            Failure: there is nothing at the path, or more than 50 GiB.
        """
        source = Path(self.path).expanduser()
        files = [source] if source.is_file() else [file for file in sorted(source.rglob("*")) if file.is_file()]
        if not files:
            raise dg.Failure(f"training.path: there is no file at {source}; put the model there", allow_retries=False)
        if (size := sum(file.stat().st_size for file in files)) > MAX_BYTES:
            raise dg.Failure(f"training.path: {source} has {size} bytes, more than {MAX_BYTES}", allow_retries=False)
        for file in files:
            target = into / (file.name if source.is_file() else file.relative_to(source))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        context.log.info(f"took {len(files)} files, {size} bytes, from {source}")
        return {"dagster/uri": source.absolute().as_uri()}
