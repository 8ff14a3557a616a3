"""What `model-serving-config` says that processes of an instance are told when they start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shoal.cluster.kube_client import Object
from shoal.resources.problems import InvalidManifest
from shoal.resources.settings import FACTORY_CONFIG, USER_CONFIG, config_from


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """Where and how the mesh serves metrics."""

    port: int | None = 2112
    """None: only beside the mesh's other HTTP."""
    https: bool = False
    per_model: bool = False
    service: str = "modelmesh-serving"
    """Whose pods dashboards look for: names of pods begin with it."""


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """Settings that take a new start of the gateway or the mesh to come into force."""

    max_message_bytes: int = 16777216
    """Largest request, at the gateway and at the mesh, which takes requests for models that are not loaded."""
    access_log: bool = False
    """Whether the gateway writes a line a request into its log."""
    metrics: MetricsOptions = MetricsOptions()

    @property
    def of_mesh(self) -> tuple[object, ...]:
        """What the mesh is told of them."""
        return self.max_message_bytes, self.metrics

    @property
    def of_gateway(self) -> tuple[object, ...]:
        """What the gateway is told of them."""
        return self.max_message_bytes, self.access_log, self.metrics.per_model


def serving_options(config_map: Callable[[str], Object | None], before: ServingOptions) -> ServingOptions:
    """The options from the ConfigMaps of these names; as `before` while one is wrong, which the controller tells."""
    try:
        config = config_from(config_map(FACTORY_CONFIG), config_map(USER_CONFIG))
    except InvalidManifest:
        return before
    told = config.metrics
    port = told.port if told.enabled else None
    metrics = MetricsOptions(port, told.scheme == "https", told.per_model, config.inference_service_name)
    return ServingOptions(config.grpc_max_message_size_bytes, config.enable_access_logging, metrics)
