"""Write `core_schemas.json`: the shape of the Kubernetes kinds that Shoal touches.

Strict validation, `kubectl explain` and strategic patches need to know every field of Pod, Deployment and the other
core kinds. The official Python client carries those shapes as class attributes; they are turned into OpenAPI v3 once,
here, so that the server starts without importing that large package. Run `python -m shoal.apiserver.schemagen` after
the `kubernetes` dependency moved; a test checks that the file is current.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

ROOTS = (
    "V1Namespace",
    "V1Secret",
    "V1ConfigMap",
    "V1PersistentVolumeClaim",
    "V1Pod",
    "CoreV1Event",
    "V1Service",
    "V1Deployment",
    "V1Scale",
    "V1Status",
    "V1DeleteOptions",
)
TARGET = Path(__file__).with_name("core_schemas.json")

_SCALARS: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "datetime": {"type": "string", "format": "date-time"},
    "object": {"x-kubernetes-preserve-unknown-fields": True},
}
_QUANTITY: dict[str, Any] = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
_QUANTITY_FIELDS = {
    ("V1ResourceRequirements", "limits"),
    ("V1ResourceRequirements", "requests"),
    ("V1VolumeResourceRequirements", "limits"),
    ("V1VolumeResourceRequirements", "requests"),
    ("V1PersistentVolumeClaimStatus", "capacity"),
    ("V1PersistentVolumeClaimStatus", "allocatedResources"),
    ("V1ContainerStatus", "allocatedResources"),
    ("V1PodSpec", "overhead"),
    ("V1EmptyDirVolumeSource", "sizeLimit"),
    ("V1ResourceFieldSelector", "divisor"),
}
_INT_OR_STRING_FIELDS = {
    ("V1ServicePort", "targetPort"),
    ("V1HTTPGetAction", "port"),
    ("V1TCPSocketAction", "port"),
    ("V1RollingUpdateDeployment", "maxSurge"),
    ("V1RollingUpdateDeployment", "maxUnavailable"),
}
# The lists that Kubernetes merges by key (its `patchMergeKey` and `listMapKey` markers).
_MERGE_KEYS: dict[tuple[str, str], tuple[str, ...]] = {
    ("V1ObjectMeta", "ownerReferences"): ("uid",),
    ("V1PodSpec", "containers"): ("name",),
    ("V1PodSpec", "initContainers"): ("name",),
    ("V1PodSpec", "ephemeralContainers"): ("name",),
    ("V1PodSpec", "volumes"): ("name",),
    ("V1PodSpec", "imagePullSecrets"): ("name",),
    ("V1PodSpec", "hostAliases"): ("ip",),
    ("V1PodSpec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    ("V1PodSpec", "resourceClaims"): ("name",),
    ("V1PodStatus", "conditions"): ("type",),
    ("V1PodStatus", "podIPs"): ("ip",),
    ("V1PodStatus", "hostIPs"): ("ip",),
    ("V1DeploymentStatus", "conditions"): ("type",),
    ("V1NamespaceStatus", "conditions"): ("type",),
    ("V1PersistentVolumeClaimStatus", "conditions"): ("type",),
    ("V1ServiceStatus", "conditions"): ("type",),
    ("V1Container", "ports"): ("containerPort", "protocol"),
    ("V1Container", "env"): ("name",),
    ("V1Container", "volumeMounts"): ("mountPath",),
    ("V1Container", "volumeDevices"): ("devicePath",),
    ("V1ServiceSpec", "ports"): ("port", "protocol"),
}
_SETS = {("V1ObjectMeta", "finalizers")}
_REFUSES_NONE = re.compile(r"client_side_validation and \w+ is None")


def build() -> dict[str, Any]:
    """Return the schemas of `ROOTS` and of all they refer to, by model name."""
    from kubernetes.client import models  # only the generator pays for this import

    schemas: dict[str, Any] = {}
    todo = list(ROOTS)
    while todo:
        name = todo.pop()
        if name in schemas:
            continue
        schemas[name], references = _schema_of(models, name)
        todo.extend(references)
    return dict(sorted(schemas.items()))


def _schema_of(models: Any, name: str) -> tuple[dict[str, Any], list[str]]:
    model = getattr(models, name)
    properties: dict[str, Any] = {}
    required: list[str] = []
    references: list[str] = []
    for attribute, python_type in model.openapi_types.items():
        field = model.attribute_map[attribute]
        properties[field] = _field_schema(name, field, python_type, references)
        if _REFUSES_NONE.search(inspect.getsource(getattr(model, attribute).fset)):
            required.append(field)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = sorted(required)
    return schema, references


def _field_schema(model: str, field: str, python_type: str, references: list[str]) -> dict[str, Any]:
    key = (model, field)
    if key in _INT_OR_STRING_FIELDS or (key in _QUANTITY_FIELDS and python_type == "str"):
        return dict(_QUANTITY)
    if key in _QUANTITY_FIELDS:
        return {"type": "object", "additionalProperties": dict(_QUANTITY)}
    schema = _type_schema(python_type, references)
    if key in _MERGE_KEYS:
        keys = _MERGE_KEYS[key]
        schema |= {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": list(keys),
            "x-kubernetes-patch-merge-key": keys[0],
            "x-kubernetes-patch-strategy": "merge",
        }
    elif key in _SETS:
        schema |= {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}
    return schema


def _type_schema(python_type: str, references: list[str]) -> dict[str, Any]:
    if python_type in _SCALARS:
        return dict(_SCALARS[python_type])
    if match := re.fullmatch(r"list\[(.+)\]", python_type):
        return {"type": "array", "items": _type_schema(match[1], references)}
    if match := re.fullmatch(r"dict[\[(]str, (.+)[\])]", python_type):
        return {"type": "object", "additionalProperties": _type_schema(match[1], references)}
    references.append(python_type)
    return {"$ref": f"#/components/schemas/{python_type}"}


def render() -> str:
    """Return the text of `core_schemas.json`."""
    return json.dumps(build(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render())
