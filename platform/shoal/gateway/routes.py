"""Routes that every gateway has: those of requests that are not on their way yet, and those to parts of the mesh."""

from __future__ import annotations

from typing import Any, Final

from shoal.gateway import names, ticks
from shoal.gateway.settings import GatewaySettings
from shoal_protos.inference import SERVICE

_TYPE: Final = "type.googleapis.com/envoy.extensions"
_MESH_METHODS: Final = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
_MESH_SERVICES: Final = (
    "mmesh.ModelMesh",
    "com.ibm.watson.tas.proto.TasRuntime",
    names.HEALTH_SERVICE,
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
TRANSCODER: Final = "envoy.filters.http.grpc_json_transcoder"
TRANSCODER_TYPE: Final = "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"
TRANSCODER_OFF: Final[dict[str, Any]] = {
    "typed_per_filter_config": {TRANSCODER: {"@type": f"{_TYPE}.{TRANSCODER_TYPE}", "proto_descriptor_bin": ""}}
}
"""On routes whose requests are not to be converted to gRPC."""


def limits(settings: GatewaySettings) -> dict[str, Any]:
    """A client's own deadline counts as it is; requests without one get the gateway's."""
    return {
        "timeout": "0s",
        "max_stream_duration": {
            "max_stream_duration": f"{settings.request_timeout}s",
            "grpc_timeout_header_max": "0s",
        },
    }


def fixed_routes(settings: GatewaySettings) -> dict[str, list[dict[str, Any]]]:
    """Routes of the mesh's own scopes, as JSON. All say how the requests that end there are counted."""

    def to(cluster: str) -> dict[str, Any]:
        return {"match": {"prefix": "/"}, "route": {"cluster": cluster, **limits(settings)}}

    uncounted = _counted(names.UNCOUNTED)

    return {
        names.FRONT_GRPC: _front_grpc(settings),
        names.FRONT_REST: [
            {**_tick(ticks.REST), **TRANSCODER_OFF},
            {
                **_counted(names.OTHER),
                "match": {"prefix": "/"},
                "direct_response": {"status": 404},
                **TRANSCODER_OFF,
            },
        ],
        names.ACTIVATOR_GRPC: [{**_counted(names.INFER), **to(names.ACTIVATOR_GRPC)}],
        names.ACTIVATOR_HTTP: [{**_counted(names.INFER), **to(names.ACTIVATOR_HTTP), **TRANSCODER_OFF}],
        names.MESH_HTTP: [{**uncounted, **to(names.ACTIVATOR_HTTP), **TRANSCODER_OFF}],
        names.HEALTH: [{**uncounted, **to(names.HEALTH), **TRANSCODER_OFF}],
    }


def _front_grpc(settings: GatewaySettings) -> list[dict[str, Any]]:
    """Inference by name, which a script sends further, and the mesh's management API."""
    own: list[dict[str, Any]] = [{"match": {"prefix": f"/{service}/", "grpc": {}}} for service in _MESH_SERVICES]
    own += [{"match": {"path": f"/{SERVICE}/{method}", "grpc": {}}} for method in _MESH_METHODS]
    to_mesh = {
        **_counted(names.UNCOUNTED),
        "route": {"cluster": names.MANAGEMENT, **limits(settings)},
        **_script({"disabled": True}),
    }
    to_activator = {"route": {"cluster": names.ACTIVATOR_GRPC, **limits(settings)}}
    infer = {**_counted(names.INFER), **to_activator}
    return [
        {"match": _plain_inference(), **infer, **_script({"name": ticks.GRPC_PLAIN})},
        _watch_health(to_mesh),
        *({**match, **to_mesh} for match in own),
        {"match": {"path": f"/{SERVICE}/{names.INFER}", "grpc": {}}, **infer},
        {**_counted(names.OTHER), "match": {"prefix": "/", "grpc": {}}, **to_activator},
        _tick(ticks.GRPC),
        {**_tick(ticks.GRPC_PLAIN), **_script({"name": ticks.GRPC_PLAIN})},
        {
            **_counted(names.UNCOUNTED),
            "match": {"prefix": "/"},
            "direct_response": {
                "status": 415,
                "body": {"inline_string": "this port speaks gRPC only; REST is served on its own port\n"},
            },
            **_script({"disabled": True}),
        },
    ]


def _tick(script: str) -> dict[str, Any]:
    """Has the script run, which answers itself."""
    return {
        **_counted(names.UNCOUNTED),
        "match": {"path": ticks.TICK + script},
        "direct_response": {"status": 404},
    }


def _counted(method: str) -> dict[str, Any]:
    return {"metadata": {"filter_metadata": {names.METADATA: {names.METHOD: method}}}}


def _watch_health(to_mesh: dict[str, Any]) -> dict[str, Any]:
    """Whoever follows the mesh's health does so for as long as it likes."""
    unlimited = {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"}
    return {
        **to_mesh,
        "match": {"path": names.WATCH_HEALTH, "grpc": {}},
        "route": {**to_mesh["route"], "max_stream_duration": unlimited},
    }


def _script(what: dict[str, Any]) -> dict[str, Any]:
    return {"typed_per_filter_config": {names.LUA: {"@type": f"{_TYPE}.filters.http.lua.v3.LuaPerRoute", **what}}}


def _plain_inference() -> dict[str, Any]:
    """Nearly all requests: nothing but the message says for which model and copy they are."""
    absent = (
        *("mm-vmodel-id", "mm-vmodel-id-bin", "mm-model-id", "mm-model-id-bin", "tas-model-id", "grpc-encoding"),
        *(names.REVISION_HEADER, names.CANARY_HEADER),
    )
    headers = [{"name": name, "present_match": False} for name in absent]
    return {"path": f"/{SERVICE}/ModelInfer", "grpc": {}, "headers": headers}
