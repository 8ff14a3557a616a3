"""Runtimes that come with Shoal, as manifests."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

from shoal.resources.runtimerules import parse
from shoal.resources.shape import parse_quantity

BUILT_IN_RUNTIMES = ("mlserver-1.x",)


def builtin_runtime(
    name: str, *, memory: str | None = None, ports: tuple[int, int, int] | None = None
) -> dict[str, Any]:
    """The manifest of a built-in runtime; `memory` (such as `512Mi`) replaces request and limit of its model server.

    `ports` are those of the adapter, and of the model server's gRPC and HTTP.

    Raises:
        KeyError: there is no built-in runtime of this name.
        ValueError: `memory` is not a quantity.
        InvalidManifest: never for what is shipped; the manifest is checked all the same.
    """
    if name not in BUILT_IN_RUNTIMES:
        raise KeyError(f"no built-in runtime {name!r}; there are {', '.join(BUILT_IN_RUNTIMES)}")
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    manifest: dict[str, Any] = yaml.safe_load(text)
    if memory is not None:
        parse_quantity(memory)
        server = manifest["spec"]["containers"][0]["resources"]
        server["requests"]["memory"] = server["limits"]["memory"] = memory
    if ports is not None:
        _move(manifest["spec"], *ports)
    parse(manifest)
    return manifest


def _move(spec: dict[str, Any], adapter: int, grpc: int, http: int) -> None:
    spec |= {"grpcEndpoint": f"port:{adapter}", "grpcDataEndpoint": f"port:{grpc}", "httpDataEndpoint": f"port:{http}"}
    spec["builtInAdapter"]["runtimeManagementPort"] = grpc
    moved = {"MLSERVER_GRPC_PORT": grpc, "MLSERVER_HTTP_PORT": http}
    for variable in spec["containers"][0]["env"]:
        if variable["name"] in moved:
            variable["value"] = str(moved[variable["name"]])
