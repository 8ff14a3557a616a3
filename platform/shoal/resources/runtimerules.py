"""Reading ServingRuntimes, and what a multi-model one must and must not say beyond its shape.

The rules are ModelMesh Serving's (`validateServingRuntimeSpec` and its webhook), which checked most of them only while
reconciling and reported them only in its log. Two are added: `grpcEndpoint` is required (upstream crashed without it),
and data endpoints must be ports, because the gateway is outside the pod.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from shoal.resources.endpoint import parse_endpoint
from shoal.resources.evidence import annotation_problems
from shoal.resources.parse import problems_of, read, unused_fields, without_nulls
from shoal.resources.pod import Container
from shoal.resources.problems import FieldProblem, InvalidManifest
from shoal.resources.servingruntime import ServingRuntime, ServingRuntimeSpec
from shoal_runtime.servers import servers

UPSTREAM_SERVER_TYPES = ("triton", "mlserver", "ovms", "torchserve")
DEPLOYMENT_PREFIX = "modelmesh-serving-"
RESERVED_CONTAINERS = frozenset({"mm", "rest-proxy", "puller"})
RESERVED_PREFIX = "mm-"
RESERVED_MOUNTS = frozenset({"storage-config", "etcd-config", "tc-config", "domain-socket"})
RESERVED_VOLUMES = RESERVED_MOUNTS | {"models-dir"}
RESERVED_PORT_NAMES = frozenset({"grpc", "http", "prometheus"})
RESERVED_PORTS = frozenset({8080, 8085, 8089, 8090, *range(11881, 11900)})
_NAME = re.compile(r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
_LABEL_BYTES = 63


def server_types() -> tuple[str, ...]:
    """What `builtInAdapter` may name: the model servers of ModelMesh, and those Shoal has besides."""
    return tuple(dict.fromkeys((*UPSTREAM_SERVER_TYPES, *servers())))


def parse(manifest: Mapping[str, Any]) -> ServingRuntime:
    """The runtime a manifest declares.

    Raises:
        InvalidManifest: with every wrong field.
    """
    runtime = read(ServingRuntime, manifest, what=_what(manifest))
    if problems := problems_in(runtime):
        raise InvalidManifest(_what(manifest), problems)
    return runtime


def validate(manifest: Mapping[str, Any]) -> list[FieldProblem]:
    """Everything wrong with a manifest: its shape, and where that is right, upstream's rules for runtimes."""
    try:
        runtime = ServingRuntime.model_validate(without_nulls(manifest))
    except ValidationError as error:
        return problems_of(ServingRuntime, error)
    return problems_in(runtime)


def warn(manifest: Mapping[str, Any]) -> list[str]:
    """What is accepted and has no effect."""
    try:
        runtime = ServingRuntime.model_validate(without_nulls(manifest))
    except ValidationError:
        return []
    found = [str(problem) for problem in unused_fields(runtime)]
    if not runtime.multi_model:
        found.append("spec.multiModel: is not true, so Shoal leaves this runtime to KServe")
    return found


def _what(manifest: Mapping[str, Any]) -> str:
    metadata = manifest.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, Mapping) else ""
    return f"{manifest.get('kind', 'ServingRuntime')} {name!r}"


def problems_in(runtime: ServingRuntime) -> list[FieldProblem]:
    """Every rule the runtime breaks. Runtimes that are not multi-model are KServe's business."""
    if not runtime.multi_model:
        return []
    spec = runtime.spec
    return [
        *_name(runtime.name),
        *_containers(spec),
        *_volumes(spec),
        *_adapter(spec),
        *_endpoints(spec),
        *_autoscaling(runtime),
        *annotation_problems(runtime.metadata.annotations),
    ]


def _name(name: str) -> Iterator[FieldProblem]:
    if not _NAME.match(name):
        yield FieldProblem(
            "metadata.name", f"{name!r} is not a valid name", "use lower-case letters, digits, '-' and '.'"
        )
    elif len(DEPLOYMENT_PREFIX + name) > _LABEL_BYTES:
        most = _LABEL_BYTES - len(DEPLOYMENT_PREFIX)
        yield FieldProblem("metadata.name", f"is {len(name)} characters long", f"use at most {most}")


def _containers(spec: ServingRuntimeSpec) -> Iterator[FieldProblem]:
    if not spec.containers:
        yield FieldProblem("spec.containers", "is empty", "add the model server's container")
    seen: set[str] = set()
    for index, container in enumerate(spec.containers):
        path = f"spec.containers[{index}]"
        if container.name in RESERVED_CONTAINERS or container.name.startswith(RESERVED_PREFIX):
            yield FieldProblem(f"{path}.name", f"{container.name!r} is reserved", "choose another name")
        if container.name in seen:
            yield FieldProblem(f"{path}.name", f"{container.name!r} is used twice", "names must be unique in a pod")
        seen.add(container.name)
        if container.readiness_probe is not None:
            yield FieldProblem(f"{path}.readinessProbe", "is set by Shoal", "remove it")
        if container.lifecycle is not None:
            yield FieldProblem(f"{path}.lifecycle", "is set by Shoal", "remove it")
        yield from _container_parts(container, path)


def _container_parts(container: Container, path: str) -> Iterator[FieldProblem]:
    for index, variable in enumerate(container.env):
        if variable.value is not None and variable.value_from is not None:
            yield FieldProblem(f"{path}.env[{index}]", "has both value and valueFrom", "keep one")
    for index, mount in enumerate(container.volume_mounts):
        if mount.name in RESERVED_MOUNTS or mount.name.startswith(RESERVED_PREFIX):
            yield FieldProblem(f"{path}.volumeMounts[{index}].name", f"{mount.name!r} is reserved", "remove it")
    for index, port in enumerate(container.ports):
        where = f"{path}.ports[{index}]"
        if port.name and (port.name in RESERVED_PORT_NAMES or port.name.startswith(RESERVED_PREFIX)):
            yield FieldProblem(f"{where}.name", f"{port.name!r} is reserved", "choose another name")
        if port.container_port in RESERVED_PORTS:
            yield FieldProblem(f"{where}.containerPort", f"{port.container_port} is reserved", "choose another port")


def _volumes(spec: ServingRuntimeSpec) -> Iterator[FieldProblem]:
    for index, volume in enumerate(spec.volumes):
        if volume.name in RESERVED_VOLUMES or volume.name.startswith(RESERVED_PREFIX):
            yield FieldProblem(f"spec.volumes[{index}].name", f"{volume.name!r} is reserved", "choose another name")


def _adapter(spec: ServingRuntimeSpec) -> Iterator[FieldProblem]:
    adapter = spec.built_in_adapter
    if adapter is None:
        return
    path = "spec.builtInAdapter.serverType"
    if adapter.server_type not in server_types():
        yield FieldProblem(path, f"{adapter.server_type!r} is not known", f"use {', '.join(server_types())}")
    elif all(container.name != adapter.server_type for container in spec.containers):
        yield FieldProblem(
            path,
            f"no container is named {adapter.server_type!r}",
            f"name the model server's container {adapter.server_type!r} in spec.containers",
        )


def _endpoints(spec: ServingRuntimeSpec) -> Iterator[FieldProblem]:
    if spec.grpc_endpoint is None:
        yield FieldProblem("spec.grpcEndpoint", "is required for multiModel runtimes", "add grpcEndpoint: port:8085")
    else:
        yield from _endpoint("spec.grpcEndpoint", spec.grpc_endpoint, port_only=spec.built_in_adapter is not None)
    for field, text in (
        ("grpcDataEndpoint", spec.grpc_data_endpoint),
        ("httpDataEndpoint", spec.http_data_endpoint),
    ):
        if text is not None:
            yield from _endpoint(f"spec.{field}", text, port_only=True)


def _endpoint(path: str, text: str, *, port_only: bool) -> Iterator[FieldProblem]:
    try:
        endpoint = parse_endpoint(text)
    except ValueError as error:
        yield FieldProblem(path, str(error), "write it like port:8001")
        return
    if endpoint.socket and port_only:
        yield FieldProblem(path, "is a unix socket, which is only reachable inside the pod", "use port:NUMBER")


_AUTOSCALER = "serving.kserve.io/autoscalerClass"
_METRIC = "serving.kserve.io/metrics"
_TARGET = "serving.kserve.io/targetUtilizationPercentage"
_LEAST = "serving.kserve.io/min-scale"
_MOST = "serving.kserve.io/max-scale"


def _autoscaling(runtime: ServingRuntime) -> Iterator[FieldProblem]:
    notes = runtime.metadata.annotations
    kind = notes.get(_AUTOSCALER, "none")
    if kind not in ("none", "hpa"):
        yield FieldProblem(_annotation(_AUTOSCALER), f"{kind!r} is not known", "use hpa or none")
    if notes.get(_METRIC, "cpu") not in ("cpu", "memory"):
        yield FieldProblem(_annotation(_METRIC), f"{notes[_METRIC]!r} is not known", "use cpu or memory")
    numbers = {name: notes[name] for name in (_TARGET, _LEAST, _MOST) if name in notes}
    wrong = [name for name, text in numbers.items() if not (text.isascii() and text.isdigit() and int(text) > 0)]
    yield from (FieldProblem(_annotation(name), f"{numbers[name]!r} is not a number above 0") for name in wrong)
    if _TARGET in numbers and _TARGET not in wrong and int(numbers[_TARGET]) > 100:
        yield FieldProblem(_annotation(_TARGET), f"{numbers[_TARGET]} is not a percentage", "use 1 to 100")
    if not wrong and {_LEAST, _MOST} <= numbers.keys() and int(numbers[_MOST]) < int(numbers[_LEAST]):
        yield FieldProblem(_annotation(_MOST), "is less than min-scale", "raise it or lower min-scale")
    if kind == "hpa" and runtime.spec.replicas is not None:
        yield FieldProblem("spec.replicas", "cannot be set together with autoscalerClass hpa", "remove one of them")


def _annotation(name: str) -> str:
    return f'metadata.annotations["{name}"]'
