"""What Prometheus is to scrape, in a file it follows (`file_sd_configs`): the mesh, and pods that ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shoal.cluster.kube_client import Object
from shoal.cluster.options import MetricsOptions
from shoal.durable import write_whole

_ANNOTATION = "prometheus.io/"


def targets(host: str, namespace: str, wanted: MetricsOptions, pods: Iterable[Object]) -> list[dict[str, Any]]:
    """Entries of the file, for a mesh at `host`. Metrics that name no pod get the label `pod` of its entry."""
    found = [_pod(pod) for pod in pods]
    entries = [entry for entry in found if entry is not None]
    if wanted.port is not None:
        scheme = "https" if wanted.https else "http"
        labels = {"__scheme__": scheme, "namespace": namespace, "pod": f"{wanted.service}-mesh"}
        entries.insert(0, {"targets": [f"{host}:{wanted.port}"], "labels": labels})
    return entries


def _pod(pod: Object) -> dict[str, Any] | None:
    metadata, status = pod["metadata"], pod.get("status") or {}
    told = {
        key.removeprefix(_ANNOTATION): value
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_ANNOTATION)
    }
    if told.get("scrape") != "true" or "port" not in told or not status.get("podIP"):
        return None
    labels = {
        "__scheme__": told.get("scheme", "http"),
        "__metrics_path__": told.get("path", "/metrics"),
        "namespace": metadata["namespace"],
        "pod": metadata["name"],
    }
    return {"targets": [f"{status['podIP']}:{told['port']}"], "labels": labels}


def write_targets(path: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the file as a whole where it changes.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(entries, indent=1) + "\n"
    if path.exists() and path.read_text() == text:
        return
    write_whole(path, text.encode(), 0o644, sync=False)
