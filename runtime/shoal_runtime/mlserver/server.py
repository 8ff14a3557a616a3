"""MLServer put together with a registry fit for sharing."""

from __future__ import annotations

from mlserver import MLServer
from mlserver.model import MLModel
from mlserver.registry import MultiModelRegistry

from shoal_runtime.mlserver.memory import Tidier
from shoal_runtime.mlserver.registry import SharedRegistry
from shoal_runtime.mlserver.workers import Workers


class SharedServer(MLServer):  # type: ignore[misc]
    """MLServer whose models load off the event loop and leave nothing behind."""

    def _create_model_registry(self) -> MultiModelRegistry:
        stock = super()._create_model_registry()
        if self._inference_pool_registry:
            # Parallel workers were asked for: models live in other processes, where none of this applies.
            return stock
        return SharedRegistry(
            workers=Workers.from_environment(),
            tidier=Tidier(),
            on_model_load=stock._on_model_load,
            on_model_unload=[*stock._on_model_unload, self._forget_metrics],
        )

    async def _forget_metrics(self, model: MLModel) -> MLModel:
        """Drops the counters of a model, which else stay for ever. gRPC and REST spell "no version" differently."""
        plane = self._data_plane
        for metric in (
            plane._ModelInferRequestSuccess,
            plane._ModelInferRequestFailure,
            plane._ModelInferRequestDuration,
        ):
            for version in {model.version or "", str(model.version)}:
                try:
                    metric.remove(model.name, version)
                except KeyError:
                    continue
        return model
