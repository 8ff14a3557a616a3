"""How gateways are told the bounds of pods: values of Envoy's runtime (RTDS), which replace limits of clusters at once.

A cluster that changes is built anew and its connections end; a value of the runtime is taken over as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from shoal.gateway.pods import Server
from shoal_protos.xds import runtime_pb2

RUNTIME_TYPE: Final = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
LAYER: Final = "bounds"
"""The one resource of this type."""
_WAIT_SECONDS: Final = 0.1
"""How long a gateway that starts waits for it. It can serve without."""


def bounds_layer() -> dict[str, Any]:
    """The layer of the bootstrap's `layered_runtime`."""
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": f"{_WAIT_SECONDS}s"}
    return {"name": LAYER, "rtds_layer": {"name": LAYER, "rtds_config": source}}


def limits(bounds: Mapping[str, int], clusters: Mapping[str, Iterable[Server]]) -> bytes:
    """The serialized `envoy.service.runtime.v3.Runtime`.

    Args:
        bounds: requests in flight from one gateway to a pod, of pods that have a bound.
        clusters: those of pods. One whose pods all have a bound has the sum as its own.
    """
    layer = runtime_pb2.Runtime(name=LAYER)
    for name, servers in clusters.items():
        found = [bounds.get(server.pod) for server in servers]
        if found and None not in found:
            layer.layer[f"circuit_breakers.{name}.default.max_requests"] = sum(limit for limit in found if limit)
    serialized: bytes = layer.SerializeToString(deterministic=True)
    return serialized
