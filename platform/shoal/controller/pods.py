"""The pod template of a ServingRuntime: its own containers, and the adapter or the puller beside them.

Names, ports, mounts and environment follow ModelMesh Serving's runtime pods, so that model servers and custom runtimes
made for them run unchanged; the mesh's own container and the REST proxy are not in the pod: the gateway is outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from shoal.controller.settings import HelperPorts
from shoal.resources.endpoint import RuntimeAddress, parse_endpoint
from shoal.resources.pod import Container
from shoal.resources.servingruntime import ServingRuntime
from shoal.resources.settings import ModelServingConfig
from shoal.resources.shape import parse_quantity
from shoal_runtime.servers import servers

ADAPTER_PORT = 8085
STOP_SECONDS = 90
MODELS_VOLUME = "models-dir"
STORAGE_VOLUME = "storage-config"
SOCKET_VOLUME = "domain-socket"
RUNTIME_ANNOTATION = "shoal.dev/runtime"
MANAGEMENT_PORT_ANNOTATION = "shoal.dev/management-port"
GRPC_PORT_ANNOTATION = "shoal.dev/grpc-port"
HTTP_PORT_ANNOTATION = "shoal.dev/http-port"
_LEAST_DISK = 1 << 30

_HELPERS = HelperPorts()

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReachablePorts:
    """Where the mesh and the gateway reach a pod of a runtime."""

    management: int
    grpc: int
    http: int | None


def ports_of(runtime: ServingRuntime, helpers: HelperPorts = _HELPERS) -> ReachablePorts:
    """The ports of a runtime's pods. Without `grpcDataEndpoint` upstream falls back to the management endpoint."""
    spec, adapter = runtime.spec, runtime.spec.built_in_adapter
    own = parse_endpoint(spec.grpc_endpoint) if spec.grpc_endpoint else RuntimeAddress(port=ADAPTER_PORT)
    if adapter is not None:
        management, fallback = own.port or ADAPTER_PORT, adapter.runtime_management_port
    else:
        management, fallback = (helpers.puller if _has_puller(runtime) else own.port), own.port
    grpc = parse_endpoint(spec.grpc_data_endpoint).port if spec.grpc_data_endpoint else fallback
    http = parse_endpoint(spec.http_data_endpoint).port if spec.http_data_endpoint else None
    return ReachablePorts(management, grpc, http)


def pod_spec(
    runtime: ServingRuntime, config: ModelServingConfig, claims: tuple[str, ...], ports: HelperPorts
) -> Document:
    """The `spec` of the pod template."""
    spec = runtime.spec
    secrets = {reference.name: None for reference in (*config.image_pull_secrets, *spec.image_pull_secrets)}
    optional = {
        "nodeSelector": spec.node_selector,
        "affinity": spec.affinity,
        "tolerations": spec.tolerations,
        "serviceAccountName": config.service_account_name,
        "imagePullSecrets": [{"name": name} for name in secrets],
    }
    return {
        "terminationGracePeriodSeconds": STOP_SECONDS,
        # The adapter weighs the model server's processes, and ends them where nothing else helps.
        "shareProcessNamespace": True,
        "containers": [
            *(_server(runtime, container, claims, ports) for container in spec.containers),
            *_helpers(runtime, config, claims, ports),
        ],
        "volumes": _volumes(runtime, config, claims),
        **{key: value for key, value in optional.items() if value},
    }


def _has_puller(runtime: ServingRuntime) -> bool:
    helper = runtime.spec.storage_helper
    return runtime.spec.built_in_adapter is None and not (helper is not None and helper.disabled)


def _server(runtime: ServingRuntime, container: Container, claims: tuple[str, ...], ports: HelperPorts) -> Document:
    """A container of the runtime's own, with what every pod of the mesh has."""
    document: Document = container.model_dump(mode="json", by_alias=True, exclude_unset=True)
    adapter = runtime.spec.built_in_adapter
    document["env"] = _server_env(runtime, container, ports)
    document["volumeMounts"] = _unique([*document.get("volumeMounts", ()), *_mounts(runtime, claims)], key="mountPath")
    stop = {"httpGet": {"path": "/prestop", "port": ports.prestop}}
    document["lifecycle"] = {"preStop": stop}
    if adapter is not None and container.name == adapter.server_type:
        document["readinessProbe"] = _listens(ports_of(runtime).grpc)
    document.setdefault("securityContext", {"capabilities": {"drop": ["ALL"]}})
    # So that the status of a server that ended has its last words.
    document.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    return document


def _server_env(runtime: ServingRuntime, container: Container, ports: HelperPorts) -> list[Document]:
    env = [variable.model_dump(mode="json", by_alias=True, exclude_unset=True) for variable in container.env]
    adapter = runtime.spec.built_in_adapter
    server = servers().get(container.name)
    if adapter is None or adapter.server_type != container.name or server is None:
        return env
    threads = str(max(1, math.ceil(parse_quantity(container.resources.requests.get("cpu", "1")))))
    defaults = {name: value.format(threads=threads) for name, value in server.pod_defaults.items()}
    if server.metrics_variable and ports.metrics != _HELPERS.metrics:
        defaults[server.metrics_variable] = str(ports.metrics)
    given = {variable["name"] for variable in env}
    return [
        _pod_ip(),
        *(variable for variable in env if variable["name"] not in ("POD_IP", *server.pod_env)),
        *({"name": name, "value": value} for name, value in server.pod_env.items()),
        *({"name": name, "value": value} for name, value in defaults.items() if name not in given),
    ]


def _helpers(
    runtime: ServingRuntime, config: ModelServingConfig, claims: tuple[str, ...], ports: HelperPorts
) -> list[Document]:
    """The adapter, the puller, or nothing when the runtime needs neither."""
    adapter = runtime.spec.built_in_adapter
    if adapter is not None:
        port = ports_of(runtime).management
        return [_helper(f"{adapter.server_type}-adapter", adapter.server_type, port, runtime, config, claims, ports)]
    if _has_puller(runtime):
        return [_helper("puller", "puller", ports.puller, runtime, config, claims, ports)]
    return []


def _helper(
    name: str,
    role: str,
    port: int,
    runtime: ServingRuntime,
    config: ModelServingConfig,
    claims: tuple[str, ...],
    ports: HelperPorts,
) -> Document:
    env = _puller_env(runtime, port) if role == "puller" else _adapter_env(runtime)
    storage = {"name": STORAGE_VOLUME, "mountPath": "/storage-config", "readOnly": True}
    return {
        "name": name,
        "image": config.storage_helper_image.reference,
        "command": config.storage_helper_image.command or ["shoal-adapter", role],
        "env": [_pod_ip(), *_common_env(runtime, ports), *env],
        "ports": [{"name": "management", "containerPort": port}],
        "volumeMounts": [*_mounts(runtime, claims), storage],
        "readinessProbe": _listens(port),
        "lifecycle": {"preStop": {"httpGet": {"path": "/prestop", "port": ports.prestop}}},
        "resources": config.storage_helper_resources.model_dump(mode="json", by_alias=True, exclude_none=True),
        "securityContext": {"capabilities": {"drop": ["ALL"]}},
    }


def _common_env(runtime: ServingRuntime, ports: HelperPorts) -> list[Document]:
    values = {
        "ROOT_MODEL_DIR": "/models",
        "STORAGE_CONFIG_DIR": "/storage-config",
        "PVC_MOUNTS_DIR": "/pvc_mounts",
        "PRESTOP_PORT": str(ports.prestop),
        "MODEL_CACHE_DIR": "/models/_cache",
        "MODEL_CACHE_BYTES": str(_disk_bytes(runtime) // 3),
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _puller_env(runtime: ServingRuntime, port: int) -> list[Document]:
    return [
        {"name": "PORT", "value": str(port)},
        {"name": "MODEL_SERVER_ENDPOINT", "value": runtime.spec.grpc_endpoint or ""},
    ]


def _adapter_env(runtime: ServingRuntime) -> list[Document]:
    """Environment of the adapter, as upstream's controller writes it; `builtInAdapter.env` overrides."""
    spec, adapter = runtime.spec, runtime.spec.built_in_adapter
    if adapter is None:
        return []
    ports = ports_of(runtime)
    values = {
        "ADAPTER_PORT": str(ports.management),
        "RUNTIME_PORT": str(adapter.runtime_management_port or ports.grpc),
        "RUNTIME_DATA_ENDPOINT": spec.grpc_data_endpoint or f"port:{ports.grpc}",
        "MEM_BUFFER_BYTES": str(adapter.mem_buffer_bytes),
        "USE_EMBEDDED_PULLER": "true",
        "RUNTIME_VERSION": _version(runtime, adapter.server_type),
    }
    if adapter.model_loading_timeout_millis:
        values["LOADTIME_TIMEOUT"] = str(adapter.model_loading_timeout_millis)
    notes = runtime.metadata.annotations
    for note, variable in (
        ("maxLoadingConcurrency", "LOADING_CONCURRENCY"),
        ("perModelConcurrencyLimit", "LIMIT_PER_MODEL_CONCURRENCY"),
    ):
        if note in notes:
            values[variable] = notes[note]
    memory = {"containerName": adapter.server_type, "resource": "requests.memory"}
    env: dict[str, Document] = {name: {"name": name, "value": value} for name, value in values.items()}
    env["CONTAINER_MEM_REQ_BYTES"] = {
        "name": "CONTAINER_MEM_REQ_BYTES",
        "valueFrom": {"resourceFieldRef": memory},
    }
    for override in adapter.env:
        env[override.name] = override.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return list(env.values())


def _version(runtime: ServingRuntime, container_name: str) -> str:
    """The tag of the model server's image."""
    image = next((container.image for container in runtime.spec.containers if container.name == container_name), None)
    _, colon, tag = (image or "").partition("@")[0].rpartition("/")[2].partition(":")
    return tag if colon else "v1"


def _volumes(runtime: ServingRuntime, config: ModelServingConfig, claims: tuple[str, ...]) -> list[Document]:
    own = [volume.model_dump(mode="json", by_alias=True, exclude_unset=True) for volume in runtime.spec.volumes]
    socket = [{"name": SOCKET_VOLUME, "emptyDir": {}}] if _socket_directory(runtime) else []
    # Optional, so that runtimes start without it (models on claims need no storage entries).
    storage = {"name": STORAGE_VOLUME, "secret": {"secretName": config.storage_secret_name, "optional": True}}
    return [
        *own,
        {"name": MODELS_VOLUME, "emptyDir": {"sizeLimit": str(_disk_bytes(runtime))}},
        storage,
        *socket,
        *({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": True}} for name in claims),
    ]


def _mounts(runtime: ServingRuntime, claims: tuple[str, ...]) -> list[Document]:
    directory = _socket_directory(runtime)
    return [
        {"name": MODELS_VOLUME, "mountPath": "/models"},
        *([{"name": SOCKET_VOLUME, "mountPath": directory}] if directory else []),
        *({"name": name, "mountPath": f"/pvc_mounts/{name}", "readOnly": True} for name in claims),
    ]


def _socket_directory(runtime: ServingRuntime) -> str:
    endpoint = runtime.spec.grpc_endpoint
    return parse_endpoint(endpoint).socket_directory if endpoint else ""


def _disk_bytes(runtime: ServingRuntime) -> int:
    """Room for model files: as upstream, half as much again as the containers' memory."""
    memory = sum(
        int(parse_quantity(container.resources.limits.get("memory", container.resources.requests.get("memory", "0"))))
        for container in runtime.spec.containers
    )
    return max(_LEAST_DISK, memory * 3 // 2)


def _listens(port: int) -> Document:
    return {"tcpSocket": {"port": port}, "periodSeconds": 5, "failureThreshold": 3}


def _pod_ip() -> Document:
    return {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


def _unique(items: list[Document], *, key: str) -> list[Document]:
    """Without later items of the same key: what the manifest says wins."""
    found: dict[str, Document] = {}
    for item in items:
        found.setdefault(item[key], item)
    return list(found.values())
