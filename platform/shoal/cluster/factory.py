"""What a new instance declares for itself: built-in runtimes, the mesh's settings, an empty storage Secret, its key."""

from __future__ import annotations

from dataclasses import astuple

import yaml

from shoal.cluster.errors import ApiRequestError, ClusterError
from shoal.cluster.kube_client import APPLY_PATCH, CONFIG_MAPS, SECRETS, ApiResource, KubeClient, Object
from shoal.cluster.ports import BuiltInPorts
from shoal.cluster.settings import ClusterSettings
from shoal.package.errors import PackageError
from shoal.package.keys import ensure_keys, trusted_keys_manifest
from shoal.resources.builtin import builtin_names, builtin_runtime
from shoal.resources.settings import CONFIG_KEY, FACTORY_CONFIG

SERVING_RUNTIMES = ApiResource("serving.kserve.io", "v1alpha1", "servingruntimes", "ServingRuntime")
STORAGE_SECRET = "storage-config"
_MANAGER = "shoal-up"


async def apply_factory(client: KubeClient, settings: ClusterSettings, ports: BuiltInPorts) -> None:
    """Apply all of it; what users added to these objects stays, what `shoal up` was told wins.

    Raises:
        ApiError: the API refused one.
        ApiUnreachableError: it does not answer.
        ClusterError: the keys of the state directory cannot be used.
    """
    await _apply(client, settings.namespace, CONFIG_MAPS, _config_map(settings))
    await _apply(client, settings.namespace, CONFIG_MAPS, _trusted_keys(settings))
    for name in builtin_names():
        manifest = builtin_runtime(name, memory=settings.pod_memory, ports=astuple(ports))
        await _apply(client, settings.namespace, SERVING_RUNTIMES, manifest)
    secret: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": STORAGE_SECRET, "namespace": settings.namespace},
        "type": "Opaque",
    }
    try:
        await client.create(SECRETS, settings.namespace, secret)
    except ApiRequestError as error:
        if error.code != 409:
            raise


def _config_map(settings: ClusterSettings) -> Object:
    config = {
        "podsPerRuntime": settings.pods_per_runtime,
        "inferenceServicePort": settings.grpc_port,
        "restProxy": {"port": settings.rest_port},
        # Pods on one's own machine are few, and starting one takes seconds that a first model would wait for.
        "scaleToZero": {"enabled": False},
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": FACTORY_CONFIG},
        "data": {CONFIG_KEY: yaml.safe_dump(config, sort_keys=False)},
    }


def _trusted_keys(settings: ClusterSettings) -> Object:
    """Packages signed with the state directory's own key are trusted; keys that users added stay."""
    try:
        return trusted_keys_manifest(ensure_keys(settings.state_dir).public, settings.namespace)
    except PackageError as error:
        raise ClusterError(str(error)) from None


async def _apply(client: KubeClient, namespace: str, resource: ApiResource, manifest: Object) -> None:
    manifest["metadata"]["namespace"] = namespace
    await client.request(
        "PATCH",
        resource.path(namespace, manifest["metadata"]["name"]),
        params={"fieldManager": _MANAGER, "force": "true"},
        body=manifest,
        content_type=APPLY_PATCH,
    )
