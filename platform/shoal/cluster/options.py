"""What `model-serving-config` says that processes of an instance are told when they start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shoal.cluster.api import Object
from shoal.resources.problems import InvalidManifest
from shoal.resources.settings import FACTORY_CONFIG, USER_CONFIG, config_from


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """Settings that take a new start of the gateway, and of the mesh where it is concerned, to come into force."""

    max_message_bytes: int = 16777216
    """Largest request, at the gateway and at the mesh, which takes requests for models that are not loaded."""
    access_log: bool = False
    """Whether the gateway writes a line a request into its log."""


def serving_options(config_map: Callable[[str], Object | None], before: ServingOptions) -> ServingOptions:
    """The options from the ConfigMaps of these names; as `before` while one is wrong, which the controller tells."""
    try:
        config = config_from(config_map(FACTORY_CONFIG), config_map(USER_CONFIG))
    except InvalidManifest:
        return before
    return ServingOptions(config.grpc_max_message_size_bytes, config.enable_access_logging)
