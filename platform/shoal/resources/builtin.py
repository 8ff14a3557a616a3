"""Runtimes that come with Shoal: the manifests of the model servers that have one."""

from __future__ import annotations

from typing import Any

from shoal.resources.runtimerules import parse
from shoal.resources.shape import parse_quantity
from shoal_runtime.servers import ModelServer, servers


def builtin_names() -> list[str]:
    """The names of the built-in runtimes."""
    return [server.runtime for server in servers().values() if server.runtime]


def builtin_runtime(
    name: str, *, memory: str = "1Gi", ports: tuple[int, int, int] = (8085, 8001, 8002)
) -> dict[str, Any]:
    """The manifest of a built-in runtime; `memory` (such as `512Mi`) is request and limit of its model server.

    `ports` are those of the adapter, and of the model server's gRPC and HTTP.

    Raises:
        KeyError: there is no built-in runtime of this name.
        ValueError: `memory` is not a quantity.
        InvalidManifest: never for what is shipped; the manifest is checked all the same.
    """
    found = [(kind, server) for kind, server in servers().items() if server.runtime == name and name]
    if not found:
        raise KeyError(f"no built-in runtime {name!r}; there are {', '.join(builtin_names())}")
    parse_quantity(memory)
    manifest = _manifest(*found[0], memory, *ports)
    parse(manifest)
    return manifest


def _manifest(kind: str, server: ModelServer, memory: str, adapter: int, grpc: int, http: int) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": server.runtime, "labels": {"name": f"modelmesh-serving-{server.runtime}-SR"}},
        "spec": {
            "supportedModelFormats": [
                {"name": name, "version": version, "autoSelect": True}
                for name, known in server.formats.items()
                for version in known.versions
            ],
            "protocolVersions": ["grpc-v2"],
            "multiModel": True,
            "grpcEndpoint": f"port:{adapter}",
            "grpcDataEndpoint": f"port:{grpc}",
            "httpDataEndpoint": f"port:{http}",
            "containers": [
                {
                    "name": kind,
                    "image": server.image,
                    "env": [
                        {"name": name, "value": value.format(grpc=grpc, http=http)}
                        for name, value in server.env.items()
                    ],
                    "resources": {
                        "requests": {"cpu": "500m", "memory": memory},
                        "limits": {"cpu": "5", "memory": memory},
                    },
                }
            ],
            "builtInAdapter": {
                "serverType": kind,
                "runtimeManagementPort": grpc,
                "memBufferBytes": 134217728,
                "modelLoadingTimeoutMillis": 90000,
            },
        },
    }
