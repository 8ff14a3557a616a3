"""A training program of its own, as `ScriptTrainer` starts it: it knows Pipes and not Dagster."""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import numpy as np
from dagster_pipes import open_dagster_pipes
from sklearn.tree import DecisionTreeClassifier


def main() -> None:
    """Train on the data it is told of."""
    with open_dagster_pipes() as pipes:
        if "--break" in sys.argv:
            raise RuntimeError("the training broke")
        with np.load(pipes.extras["data"]) as data:
            names = sorted(data.files)
        pipes.log.info(f"found {names}")
        if "--nothing" not in sys.argv:
            depth = pipes.extras["parameters"].get("depth", 1)
            points = np.array([[-1.0, 0.0], [7.0, 0.0]], dtype=np.float32)
            model = DecisionTreeClassifier(max_depth=depth).fit(points, [0, 1])
            joblib.dump(model, Path(pipes.extras["model_dir"]) / "model.joblib")
        pipes.report_asset_materialization(
            metadata={"arrays": len(names), "depth": pipes.extras["parameters"]["depth"]}
        )


if __name__ == "__main__":
    main()
