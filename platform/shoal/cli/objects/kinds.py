"""What users call the kinds of objects, and how the API calls them."""

from __future__ import annotations

from shoal.cli.errors import CliError
from shoal.cluster.errors import ApiRequestError
from shoal.cluster.kube_client import (
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    NAMESPACES,
    PODS,
    SECRETS,
    ApiResource,
    KubeClient,
    Object,
)

_SERVING = "serving.kserve.io"
INFERENCE_SERVICES = ApiResource(_SERVING, "v1beta1", "inferenceservices", "InferenceService")
SERVING_RUNTIMES = ApiResource(_SERVING, "v1alpha1", "servingruntimes", "ServingRuntime")
CLUSTER_RUNTIMES = ApiResource(
    _SERVING, "v1alpha1", "clusterservingruntimes", "ClusterServingRuntime", namespaced=False
)
SERVICES = ApiResource("", "v1", "services", "Service")

KNOWN: tuple[tuple[ApiResource, tuple[str, ...]], ...] = (
    (INFERENCE_SERVICES, ("isvc",)),
    (SERVING_RUNTIMES, ("sr",)),
    (CLUSTER_RUNTIMES, ("csr",)),
    (PODS, ("po",)),
    (CLAIMS, ("pvc",)),
    (SECRETS, ()),
    (CONFIG_MAPS, ("cm",)),
    (EVENTS, ("ev",)),
    (DEPLOYMENTS, ("deploy",)),
    (SERVICES, ("svc",)),
    (NAMESPACES, ("ns",)),
)
_BY_NAME = {
    name: resource
    for resource, short in KNOWN
    for name in (*short, resource.plural, resource.kind.lower(), f"{resource.plural}.{resource.group}")
}
_BY_KIND = {(resource.api_version, resource.kind): resource for resource, _ in KNOWN}


def known(name: str) -> ApiResource | None:
    """A kind by any of its names, if it is one of Shoal's."""
    return _BY_NAME.get(name.lower())


async def by_name(client: KubeClient, name: str) -> ApiResource:
    """A kind by plural, singular or short name; kinds Shoal does not use are looked up at the server.

    Raises:
        CliError: no such kind.
    """
    found = known(name)
    if found is not None:
        return found
    wanted = name.lower()
    for version in await _versions(client):
        for document, resource in await _resources(client, version):
            names = {
                resource.plural,
                resource.kind.lower(),
                document.get("singularName"),
                f"{resource.plural}.{resource.group}",
            }
            if wanted in names | set(document.get("shortNames") or ()):
                return resource
    offered = ", ".join(short[0] if short else resource.plural for resource, short in KNOWN)
    raise CliError(f"the server has no kind {name!r}; there are copies, {offered}")


async def by_manifest(client: KubeClient, manifest: Object) -> ApiResource:
    """The kind of a manifest.

    Raises:
        CliError: the server does not have it.
    """
    version, kind = str(manifest.get("apiVersion", "")), str(manifest.get("kind", ""))
    found = _BY_KIND.get((version, kind))
    if found is not None:
        return found
    try:
        resources = await _resources(client, version)
    except ApiRequestError:
        resources = []
    for _, resource in resources:
        if resource.kind == kind:
            return resource
    raise CliError(f"the server has no kind {kind} in {version}")


async def _versions(client: KubeClient) -> list[str]:
    groups = (await client.json("GET", "/apis")).get("groups") or ()
    return ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]


async def _resources(client: KubeClient, version: str) -> list[tuple[Object, ApiResource]]:
    group, _, short = version.rpartition("/")
    path = f"/apis/{version}" if group else f"/api/{version}"
    documents = (await client.json("GET", path)).get("resources") or ()
    return [
        (document, ApiResource(group, short, document["name"], document["kind"], bool(document.get("namespaced"))))
        for document in documents
        if "/" not in document["name"]
    ]
