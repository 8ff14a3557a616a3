"""What `dg scaffold defs` writes: a `defs.yaml` to fill in, and for a model the functions it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

_FUNCTIONS = '''"""Data, training and evaluation of {name}. Plain Python: test it without Dagster."""

from __future__ import annotations

from typing import Any

from dagster_shoal import Dataset, Evaluation, Rows
from dagster_shoal.model import Parameters


def load_data() -> Dataset:
    """Examples to train with and, apart from them, to evaluate with."""
    raise NotImplementedError("load the examples of {name} here")


def train(data: Dataset, parameters: Parameters) -> Any:
    """A fitted model."""
    raise NotImplementedError("train {name} here")


def evaluate(model: Any, rows: Rows) -> Evaluation:
    """How good it is on rows it was not trained with."""
    raise NotImplementedError("evaluate {name} here")
'''


class ModelScaffolder(dg.Scaffolder):
    """`defs.yaml` and `functions.py` of a model, named as its folder."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write them."""
        folder = request.target_path
        name = folder.name.replace("_", "-").lower()
        module = _module(folder, request.project_root)
        attributes: dict[str, Any] = {
            "name": name,
            "data": f"{module}.load_data",
            "evaluate": f"{module}.evaluate",
            "training": {"type": "function", "function": f"{module}.train"},
            "metric_gates": [{"metric": "accuracy", "threshold": 0.9}],
            "rollout": {"strategy": "canary", "weights": [10, 50], "step_seconds": 60},
        }
        dg.scaffold_component(request, attributes)
        functions = folder / "functions.py"
        if not functions.exists():
            functions.write_text(_FUNCTIONS.format(name=name))


class ClusterScaffolder(dg.Scaffolder):
    """`defs.yaml` of the embedded cluster of this machine."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write it."""
        dg.scaffold_component(request, {"cluster": {}, "store": {"type": "local", "claim": "models"}})


def _module(folder: Path, root: Path | None) -> str:
    """The dotted name of `functions.py` in a component's folder, of a project laid out as `src/PACKAGE/defs/...`."""
    parts = folder.relative_to(root).parts if root and folder.is_relative_to(root) else (folder.name,)
    return ".".join((*(parts[1:] if parts[0] == "src" else parts), "functions"))
