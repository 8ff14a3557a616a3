"""Defaults and rules of the core kinds, as far as Kubernetes' own matter on one machine.

Shapes (field names and types) are checked along the schemas; here is what a schema cannot say. Defaults are written
into the stored object, because kubectl and the controller read them back.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from shoal.apiserver.errors import StatusCause
from shoal.apiserver.selectors import Requirement
from shoal.resources.shape import parse_quantity

EVENT_FIELDS = frozenset(
    {"involvedObject." + name for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")}
    | {"involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"}
)
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_MAX_DATA_BYTES = 1024 * 1024
_ACCESS_MODES = {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"}

Document = dict[str, Any]


def _required(field: str) -> StatusCause:
    return StatusCause(field, "Required value", "FieldValueRequired")


def _immutable(field: str) -> StatusCause:
    return StatusCause(field, "Invalid value: field is immutable; delete the object and create it again")


def no_rules(document: Document) -> list[StatusCause]:
    """Nothing beyond the schema."""
    del document
    return []


def default_namespace(document: Document) -> None:
    """Namespaces are active at once, carry their name as a label, and are emptied before they go."""
    document.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    document.setdefault("status", {}).setdefault("phase", "Active")
    labels = document["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = document["metadata"]["name"]


def _key_causes(field: str, data: Document) -> list[StatusCause]:
    message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    return [
        StatusCause(f"{field}[{key}]", f"Invalid value: \"{key}\": {message} (e.g. 'key.name')")
        for key in data
        if len(key) > 253 or key in (".", "..") or not _DATA_KEY.fullmatch(key)
    ]


def _size_causes(field: str, size: int) -> list[StatusCause]:
    if size <= _MAX_DATA_BYTES:
        return []
    return [StatusCause(field, f"Too long: may not be more than {_MAX_DATA_BYTES} bytes", "FieldValueTooLong")]


def validate_config_map(document: Document) -> list[StatusCause]:
    """Keys are file names, `binaryData` is base64, and all of it fits a MiB."""
    data, binary = document.get("data") or {}, document.get("binaryData") or {}
    causes = _key_causes("data", data) + _key_causes("binaryData", binary) + _base64_causes("binaryData", binary)
    causes += [
        StatusCause(f"binaryData[{key}]", "Invalid value: duplicate of key present in data")
        for key in binary
        if key in data
    ]
    return causes + _size_causes("", sum(len(value.encode(errors="replace")) for value in data.values()))


def _base64_causes(field: str, data: Document) -> list[StatusCause]:
    causes = []
    for key, value in data.items():
        try:
            base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError) as error:
            fix = "encode the value (base64 -w0), or put the plain text under stringData"
            causes.append(StatusCause(f"{field}.{key}", f"Invalid value: illegal base64 data: {error}; {fix}"))
    return causes


def default_secret(document: Document) -> None:
    """`stringData` is written into `data`, encoded; the type defaults to Opaque."""
    document.setdefault("type", "Opaque")
    plain = document.pop("stringData", None)
    if plain:
        data = document.setdefault("data", {})
        data.update({key: base64.b64encode((value or "").encode()).decode() for key, value in plain.items()})


def validate_secret(document: Document) -> list[StatusCause]:
    """Keys are file names, values are base64, and all of it fits a MiB."""
    data = document.get("data") or {}
    causes = _key_causes("data", data) + _base64_causes("data", data)
    return causes + _size_causes("data", sum(len(value or "") * 3 // 4 for value in data.values()))


def keep_immutable(old: Document, new: Document) -> list[StatusCause]:
    """A ConfigMap or Secret marked immutable keeps its content."""
    if not old.get("immutable"):
        return []
    fields = ("data", "binaryData", "immutable")
    message = "Forbidden: field is immutable when `immutable` is set"
    return [StatusCause(field, message, "FieldValueForbidden") for field in fields if old.get(field) != new.get(field)]


def update_secret(old: Document, new: Document) -> list[StatusCause]:
    """The type of a Secret never changes."""
    causes = keep_immutable(old, new)
    return causes if old.get("type") == new.get("type") else [*causes, _immutable("type")]


def default_claim(document: Document) -> None:
    """A claim is a directory here: it is bound to a volume of its own as soon as it exists."""
    spec = document.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    uid = document["metadata"].get("uid")
    if uid:
        spec.setdefault("volumeName", f"pvc-{uid}")
        storage = spec.get("resources", {}).get("requests", {}).get("storage", "")
        status = document.setdefault("status", {})
        status.update(phase="Bound", accessModes=spec.get("accessModes", []), capacity={"storage": storage})


def validate_claim(document: Document) -> list[StatusCause]:
    """A claim says how it is shared and how much it holds."""
    spec = document.get("spec") or {}
    causes: list[StatusCause] = []
    modes = spec.get("accessModes") or []
    if not modes:
        message = "Required value: at least 1 access mode is required"
        causes.append(StatusCause("spec.accessModes", message, "FieldValueRequired"))
    known = ", ".join(sorted(_ACCESS_MODES))
    causes += [
        StatusCause(
            f"spec.accessModes[{index}]", f'Unsupported value: "{mode}": use one of {known}', "FieldValueNotSupported"
        )
        for index, mode in enumerate(modes)
        if mode not in _ACCESS_MODES
    ]
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        causes.append(_required("spec.resources.requests.storage"))
    else:
        causes += _quantity_causes("spec.resources.requests.storage", storage)
    if spec.get("volumeMode", "Filesystem") != "Filesystem":
        causes.append(
            StatusCause("spec.volumeMode", "Unsupported value: embedded claims are directories; use Filesystem")
        )
    return causes


def _quantity_causes(field: str, value: Any) -> list[StatusCause]:
    try:
        positive = parse_quantity(value) > 0
    except ValueError as error:
        return [StatusCause(field, f"Invalid value: {error}")]
    return [] if positive else [StatusCause(field, f'Invalid value: "{value}": must be greater than zero')]


def update_claim(old: Document, new: Document) -> list[StatusCause]:
    """Only the requested size of a claim may change."""
    fixed = ("accessModes", "storageClassName", "volumeMode", "volumeName")
    before, after = old.get("spec") or {}, new.get("spec") or {}
    return [_immutable(f"spec.{field}") for field in fixed if before.get(field) != after.get(field)]


def default_pod(document: Document) -> None:
    """What kubectl prints of every pod."""
    spec = document.setdefault("spec", {})
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    _default_ports(spec)
    document.setdefault("status", {}).setdefault("phase", "Pending")


def _default_ports(spec: Document) -> None:
    for container in spec.get("containers") or []:
        for port in container.get("ports") or []:
            port.setdefault("protocol", "TCP")


def validate_pod(document: Document) -> list[StatusCause]:
    """Pods are made for Deployments; one that is not would never be started."""
    causes = _container_causes("spec", document.get("spec") or {})
    owners = document["metadata"].get("ownerReferences") or []
    if not any(owner.get("kind") == "Deployment" and owner.get("controller") for owner in owners):
        why = (
            "Required value: the embedded cluster runs pods of Deployments only. Declare a ServingRuntime to get pods; "
            "to put files into a claim use `shoal pvc create NAME --from PATH`"
        )
        causes.append(StatusCause("metadata.ownerReferences", why, "FieldValueRequired"))
    return causes


def _container_causes(path: str, spec: Document) -> list[StatusCause]:
    containers = spec.get("containers") or []
    if not containers:
        return [_required(f"{path}.containers")]
    if spec.get("initContainers"):
        why = "Forbidden: the embedded cluster runs no init containers; do this work in the container's own command"
        return [StatusCause(f"{path}.initContainers", why, "FieldValueForbidden")]
    names = [container.get("name") for container in containers]
    return [
        StatusCause(f"{path}.containers[{index}].name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def update_pod(old: Document, new: Document) -> list[StatusCause]:
    """A pod's containers are fixed; a changed Deployment makes new pods."""
    movable = ("nodeName", "activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations")
    before = {key: value for key, value in old["spec"].items() if key not in movable}
    after = {key: value for key, value in new["spec"].items() if key not in movable}
    if before == after:
        return []
    return [
        StatusCause(
            "spec", "Forbidden: pod updates may not change the spec; change the ServingRuntime", "FieldValueForbidden"
        )
    ]


def validate_event(document: Document) -> list[StatusCause]:
    """An event lives beside the object it is about."""
    namespace = (document.get("involvedObject") or {}).get("namespace") or "default"
    if namespace == document["metadata"].get("namespace"):
        return []
    return [StatusCause("involvedObject.namespace", f'Invalid value: "{namespace}": does not match event.namespace')]


def default_service(document: Document) -> None:
    """Embedded Services are names for addresses: headless unless told otherwise."""
    spec = document.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] == "ClusterIP":
        spec.setdefault("clusterIP", "None")
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))


def validate_service(document: Document) -> list[StatusCause]:
    """Ports are numbers of their range, and named when there are several."""
    ports = (document.get("spec") or {}).get("ports") or []
    causes = []
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        number = port.get("port", 0)
        if not 1 <= number <= 65535:
            causes.append(StatusCause(f"{at}.port", f"Invalid value: {number}: must be between 1 and 65535, inclusive"))
        if len(ports) > 1 and not port.get("name"):
            causes.append(_required(f"{at}.name"))
    return causes


def default_deployment(document: Document) -> None:
    """What kubectl dereferences, as Kubernetes defaults it."""
    spec = document.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("progressDeadlineSeconds", 600)
    spec.setdefault("revisionHistoryLimit", 10)
    _default_ports(spec.get("template", {}).get("spec") or {})
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")


def validate_deployment(document: Document) -> list[StatusCause]:
    """A Deployment selects its own pods."""
    spec = document.get("spec") or {}
    template = spec.get("template") or {}
    causes = _container_causes("spec.template.spec", template.get("spec") or {})
    if spec.get("replicas", 0) < 0:
        causes.append(
            StatusCause("spec.replicas", f"Invalid value: {spec['replicas']}: must be greater than or equal to 0")
        )
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    terms = [Requirement(key, frozenset([value])) for key, value in wanted.items()]
    if not wanted:
        causes.append(_required("spec.selector.matchLabels"))
    elif not all(term.admits(labels.get(term.key)) for term in terms):
        message = "Invalid value: `selector` does not match template `labels`"
        causes.append(StatusCause("spec.template.metadata.labels", message))
    return causes


def update_deployment(old: Document, new: Document) -> list[StatusCause]:
    """The selector of a Deployment never changes."""
    return [] if old["spec"].get("selector") == new["spec"].get("selector") else [_immutable("spec.selector")]
