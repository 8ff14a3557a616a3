"""The `scale` subresource of a Deployment: its replicas as an object of their own. Pure."""

from __future__ import annotations

from shoal.apiserver.errors import StatusCause, bad_request, invalid
from shoal.apiserver.state import Document


def of(deployment: Document) -> Document:
    """Return the `Scale` of a Deployment."""
    metadata = deployment["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = deployment["spec"].get("selector", {}).get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in names if name in metadata},
        "spec": {"replicas": deployment["spec"].get("replicas", 1)},
        "status": {
            "replicas": deployment.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def into(deployment: Document, scale: Document) -> Document:
    """Return the Deployment with the replicas that `scale` asks for.

    Raises:
        ApiError: 400 or 422 for a Scale without a usable number of replicas.
    """
    spec, metadata = scale.get("spec", {}), scale.get("metadata", {})
    if not isinstance(spec, dict) or not isinstance(metadata, dict):
        raise bad_request("a Scale has the objects metadata and spec")
    replicas = spec.get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        cause = StatusCause(
            "spec.replicas", f"Invalid value: {replicas!r}: must be a number greater than or equal to 0"
        )
        raise invalid("Scale", "autoscaling", deployment["metadata"]["name"], [cause])
    asked = {name: metadata[name] for name in ("resourceVersion", "uid") if metadata.get(name)}
    return {
        **deployment,
        "metadata": {**deployment["metadata"], **asked},
        "spec": {**deployment["spec"], "replicas": replicas},
    }
