"""How assets are named and shown. Subclass `ShoalTranslator` to fit the conventions of a code location.

class Ours(ShoalTranslator):
    def get_asset_spec(self, props: ShoalProps) -> dg.AssetSpec:
        return super().get_asset_spec(props).replace_attributes(group_name="risk").merge_attributes(tags={"tier": "1"})
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg
from dagster_shoal.model import ModelDefinition
from dagster_shoal.stages import MODEL_TAG, Stage

_SAYS = {
    Stage.TRAINING_DATA: "Examples to train and to evaluate with, named by a hash of their content.",
    Stage.TRAINED_MODEL: "A fitted model, kept as the files its model server loads.",
    Stage.VALIDATED_MODEL: "How good the model is on rows it was not trained with; metrics become time series here.",
    Stage.MODEL_PACKAGE: "Model, signature, samples with expected answers, lineage: one content-addressed package.",
    Stage.PUBLISHED_MODEL: "The package in the object store, with the signed evidence of every gate. Never changes.",
    Stage.ROLLOUT: "The package made to serve, step by step. Runs in the mesh; this follows and steers it.",
    Stage.SERVING_ENDPOINT: "The endpoint as its callers see it, asked with the package's own samples.",
}
_KINDS: dict[Stage, frozenset[str]] = {
    Stage.TRAINING_DATA: frozenset({"python"}),
    Stage.TRAINED_MODEL: frozenset({"python"}),
    Stage.VALIDATED_MODEL: frozenset({"python"}),
    Stage.MODEL_PACKAGE: frozenset({"json"}),
    Stage.PUBLISHED_MODEL: frozenset({"s3"}),
    Stage.ROLLOUT: frozenset({"kubernetes"}),
    Stage.SERVING_ENDPOINT: frozenset({"kubernetes"}),
}
_ICONS = {
    "sklearn": "scikitlearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "mlflow": "mlflow",
    "huggingface": "huggingface",
    "pytorch": "pytorch",
    "tensorflow": "tensorflow",
}
"""Icons the UI has, by model format."""


@dataclass(frozen=True)
class ShoalProps:
    """What an asset is about."""

    stage: Stage
    model: ModelDefinition | None
    """None where one definition serves all models, by partition."""
    formats: tuple[str, ...] = ()
    """Model formats, for icons, where `model` is None."""
    owners: tuple[str, ...] = ()
    """Of any of the models, where `model` is None."""
    code_version: str = ""
    """Of all the models, where `model` is None; empty where they differ."""


class ShoalTranslator:
    """Names, groups, kinds, owners and tags of the assets. One method to override."""

    def get_asset_spec(self, props: ShoalProps) -> dg.AssetSpec:
        """The spec of an asset. Dependencies and partitions are added to what this returns."""
        stage, model = props.stage, props.model
        name = stage.value
        making = stage in (Stage.TRAINED_MODEL, Stage.VALIDATED_MODEL)
        formats = ((model.format,) if model else props.formats) if making else ()
        icons = {_ICONS[name] for name in formats if name in _ICONS}
        return dg.AssetSpec(
            key=dg.AssetKey([model.name.replace("-", "_"), name] if model else [name]),
            description=_SAYS[stage] + (f"\n\n{model.description}" if model and model.description else ""),
            group_name="serving" if stage in (Stage.ROLLOUT, Stage.SERVING_ENDPOINT) else "models",
            kinds=set(sorted(_KINDS[stage] | icons)[:3]),
            owners=list(model.owners if model else props.owners),
            tags={MODEL_TAG: model.name} if model else {},
            code_version=(model.code_version if model else props.code_version) or None,
        )
