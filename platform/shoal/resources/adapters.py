"""Which model servers Shoal's adapter loads models into. Manifests may name others: ModelMesh has adapters for them."""

from __future__ import annotations

from shoal.resources.servingruntime import ServingRuntime
from shoal.resources.settings import ModelServingConfig
from shoal_runtime.servers import servers


def missing_adapter(runtime: ServingRuntime, config: ModelServingConfig) -> str:
    """Why nothing would load models on the pods of a runtime; empty where something would.

    Who sets a command in `storageHelperImage` brings an adapter along, of which nothing is known here.
    """
    adapter = runtime.spec.built_in_adapter
    if adapter is None or adapter.server_type in servers() or config.storage_helper_image.command:
        return ""
    supported = ", ".join(servers())
    return (
        f"serverType {adapter.server_type!r} has no adapter in this version of Shoal; "
        f"supported: {supported}, and servers of your own without builtInAdapter"
    )
