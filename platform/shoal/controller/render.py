"""The objects the controller writes: a Deployment for each runtime, and the Services. Pure functions."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shoal.controller.pods import (
    GRPC_PORT_ANNOTATION,
    HTTP_PORT_ANNOTATION,
    MANAGEMENT_PORT_ANNOTATION,
    RUNTIME_ANNOTATION,
    pod_spec,
    ports_of,
)
from shoal.controller.settings import ControllerSettings, HelperPorts
from shoal.resources.servingruntime import ServingRuntime
from shoal.resources.settings import ModelServingConfig

SERVICE_LABEL = "modelmesh-service"
MANAGED_BY = {"app.kubernetes.io/managed-by": "shoal-controller"}
ADDRESS_ANNOTATION = "shoal.dev/address"
HASH_ANNOTATION = "shoal.dev/rendered"
MESH_SERVICE = "shoal-mesh"

Document = dict[str, Any]


def deployment_name(runtime_name: str, config: ModelServingConfig) -> str:
    """Name of a runtime's Deployment."""
    return f"{config.inference_service_name}-{runtime_name}"


def deployment(
    runtime: ServingRuntime,
    config: ModelServingConfig,
    *,
    namespace: str,
    replicas: int,
    claims: tuple[str, ...] = (),
    helper_ports: HelperPorts | None = None,
) -> Document:
    """The Deployment of a runtime's pods. Its annotation tells whether it is the one rendered before."""
    name = deployment_name(runtime.name, config)
    selector = {SERVICE_LABEL: config.inference_service_name, "name": name}
    helpers = helper_ports or HelperPorts()
    ports = ports_of(runtime, helpers)
    contract = {
        RUNTIME_ANNOTATION: runtime.name,
        MANAGEMENT_PORT_ANNOTATION: str(ports.management),
        GRPC_PORT_ANNOTATION: str(ports.grpc),
        **({HTTP_PORT_ANNOTATION: str(ports.http)} if ports.http is not None else {}),
    }
    metadata: Document = {"name": name, "namespace": namespace, "labels": selector | MANAGED_BY}
    if runtime.metadata.uid:
        metadata["ownerReferences"] = [_owner(runtime)]
    document: Document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "75%", "maxUnavailable": "15%"}},
            "template": {
                "metadata": {
                    # The runtime's own labels win over the configuration's; those of the contract cannot be overridden.
                    "labels": config.runtime_pod_labels | runtime.spec.labels | MANAGED_BY | selector,
                    "annotations": config.runtime_pod_annotations | runtime.spec.annotations | contract,
                },
                "spec": pod_spec(runtime, config, claims, helpers),
            },
        },
    }
    metadata["annotations"] = {HASH_ANNOTATION: _digest(document)}
    return document


def services(settings: ControllerSettings, config: ModelServingConfig) -> list[Document]:
    """The Services: the gateway under upstream's name, and the mesh's admin endpoint."""
    headless = {"clusterIP": "None"} if config.headless_service else {}
    gateway: Document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": config.inference_service_name,
            "namespace": settings.namespace,
            "labels": {SERVICE_LABEL: config.inference_service_name} | MANAGED_BY,
        },
        "spec": headless
        | {
            "selector": {"app.kubernetes.io/name": "shoal-gateway"},
            "ports": [
                _port("grpc", config.inference_service_port, "grpc"),
                _port("http", config.rest_proxy.port, "http"),
            ],
        },
    }
    metrics = config.metrics
    annotations = {ADDRESS_ANNOTATION: settings.admin_address} if settings.admin_address else {}
    ports = [_port("admin", settings.admin_port, "admin")]
    if metrics.enabled:
        ports.append(_port("prometheus", metrics.port, "prometheus"))
        annotations |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/scheme": metrics.scheme,
            "prometheus.io/port": str(metrics.port),
            "prometheus.io/path": "/metrics",
        }
    mesh: Document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": MESH_SERVICE,
            "namespace": settings.namespace,
            "labels": dict(MANAGED_BY),
            "annotations": annotations,
        },
        "spec": {"selector": {"app.kubernetes.io/name": MESH_SERVICE}, "ports": ports},
    }
    return [gateway, mesh]


def _port(name: str, port: int, target: str) -> Document:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


def _owner(runtime: ServingRuntime) -> Document:
    return {
        "apiVersion": runtime.api_version,
        "kind": runtime.kind,
        "name": runtime.name,
        "uid": runtime.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _digest(document: Document) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
