"""Which kinds the embedded API serves: Shoal's own and the few core kinds they touch.

`Served` is what the rest of this package knows about a kind. Shoal's kinds come from `shoal.resources.kinds`; the core
kinds are described here, with the rules Kubernetes applies to them as far as they matter on one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shoal.apiserver import core, names, tables
from shoal.apiserver.errors import StatusCause
from shoal.apiserver.schema import Schema, with_envelope
from shoal.apiserver.tables import TableColumn
from shoal.resources import kinds as shoal_kinds

Validate = Callable[[dict[str, Any]], list[StatusCause]]
ValidateUpdate = Callable[[dict[str, Any], dict[str, Any]], list[StatusCause]]
Default = Callable[[dict[str, Any]], None]
Warn = Callable[[dict[str, Any]], list[str]]
_IDENTITY = frozenset({"metadata.name", "metadata.namespace"})


def _no_default(document: dict[str, Any]) -> None:
    """Most kinds have no defaults."""
    del document


def _no_warnings(document: dict[str, Any]) -> list[str]:
    """Most kinds have no field that is accepted without effect."""
    del document
    return []


def _any_update(old: dict[str, Any], new: dict[str, Any]) -> list[StatusCause]:
    """Most kinds may change every field of their spec."""
    del old, new
    return []


@dataclass(frozen=True, slots=True)
class Served:
    """One kind as this server serves it."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    columns: tuple[TableColumn, ...]
    schema: Schema
    validate: Validate
    validate_update: ValidateUpdate = _any_update
    default: Default = _no_default
    warn: Warn = _no_warnings
    warn_of_runtime: Callable[[dict[str, Any], Iterable[dict[str, Any]]], list[str]] | None = None
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    has_status: bool = False
    has_scale: bool = False
    counts_generation: bool = False
    custom: bool = False
    """A kind that a cluster would know by a CustomResourceDefinition: its updates must name a resourceVersion."""
    graceful: bool = False
    """Deletion waits until somebody (the kubelet) deletes again with a grace period of zero."""
    selectable: frozenset[str] = field(default=_IDENTITY)
    name_rule: names.NameRule = names.subdomain

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """The key of the kind in the store, e.g. `apps/deployments`."""
        return f"{self.group}/{self.plural}"


class Kinds:
    """All served kinds, found by path or by object."""

    def __init__(self, served: tuple[Served, ...]) -> None:
        self.all = served
        self._by_path: Mapping[tuple[str, str, str], Served] = {(k.group, k.version, k.plural): k for k in served}
        self._by_resource: Mapping[str, Served] = {k.resource: k for k in served}

    def by_path(self, group: str, version: str, plural: str) -> Served | None:
        """Return the kind at `/apis/GROUP/VERSION/PLURAL`."""
        return self._by_path.get((group, version, plural))

    def by_resource(self, resource: str) -> Served:
        """Return the kind stored under `resource`."""
        return self._by_resource[resource]

    def group_versions(self) -> list[tuple[str, str]]:
        """Return the (group, version) pairs, in the order they are announced."""
        return list(dict.fromkeys((k.group, k.version) for k in self.all))


def _core(model: str, **more: Any) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{model}"}, "columns": tables.CORE_COLUMNS[model], **more}


def _core_kinds() -> tuple[Served, ...]:
    return (
        Served(
            "", "v1", "Namespace", "namespaces", "namespace", short_names=("ns",), namespaced=False, has_status=True,
            validate=core.no_rules, default=core.default_namespace, name_rule=names.label,
            selectable=_IDENTITY | {"status.phase"}, **_core("V1Namespace"),
        ),
        Served(
            "", "v1", "ConfigMap", "configmaps", "configmap", short_names=("cm",),
            validate=core.validate_config_map, validate_update=core.keep_immutable, **_core("V1ConfigMap"),
        ),
        Served(
            "", "v1", "Secret", "secrets", "secret", validate=core.validate_secret, default=core.default_secret,
            validate_update=core.update_secret, selectable=_IDENTITY | {"type"}, **_core("V1Secret"),
        ),
        Served(
            "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim", short_names=("pvc",),
            has_status=True, validate=core.validate_claim, validate_update=core.update_claim,
            default=core.default_claim, **_core("V1PersistentVolumeClaim"),
        ),
        Served(
            "", "v1", "Pod", "pods", "pod", short_names=("po",), categories=("all",), has_status=True, graceful=True,
            validate=core.validate_pod, validate_update=core.update_pod, default=core.default_pod,
            selectable=_IDENTITY | {"status.phase", "status.podIP", "spec.nodeName", "spec.restartPolicy"},
            **_core("V1Pod"),
        ),
        Served(
            "", "v1", "Event", "events", "event", short_names=("ev",), validate=core.validate_event,
            selectable=_IDENTITY | core.EVENT_FIELDS, **_core("CoreV1Event"),
        ),
        Served(
            "", "v1", "Service", "services", "service", short_names=("svc",), categories=("all",), has_status=True,
            validate=core.validate_service, default=core.default_service, name_rule=names.label_1035,
            selectable=_IDENTITY | {"spec.type", "spec.clusterIP"}, **_core("V1Service"),
        ),
        Served(
            "apps", "v1", "Deployment", "deployments", "deployment", short_names=("deploy",), categories=("all",),
            has_status=True, has_scale=True, counts_generation=True, validate=core.validate_deployment,
            validate_update=core.update_deployment, default=core.default_deployment, **_core("V1Deployment"),
        ),
    )  # fmt: skip


def _shoal_kind(kind: shoal_kinds.Kind) -> Served:
    columns = [tables.NAME]
    columns += [tables.path_column(c.name, c.json_path, c.type, c.priority, c.description) for c in kind.columns]

    def validate(document: dict[str, Any]) -> list[StatusCause]:
        causes = []
        for problem in kind.validate(document):
            fix = f"; {problem.fix}" if problem.fix else ""
            causes.append(StatusCause(problem.path, f"{problem.problem}{fix}"))
        return causes

    return Served(
        kind.group,
        kind.version,
        kind.kind,
        kind.plural,
        kind.singular,
        columns=tuple(columns),
        schema=with_envelope(kind.schema),
        validate=validate,
        short_names=kind.short_names,
        namespaced=kind.namespaced,
        has_status=kind.has_status,
        counts_generation=True,
        custom=True,
        warn=kind.warn,
        warn_of_runtime=kind.warn_of_runtime,
    )


def served_kinds() -> Kinds:
    """Return every kind of the embedded API."""
    return Kinds((*_core_kinds(), *(_shoal_kind(kind) for kind in shoal_kinds.KINDS)))
