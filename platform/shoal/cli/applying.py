"""`shoal apply`: server-side apply of every object, told as kubectl tells it."""

from __future__ import annotations

from collections.abc import Sequence

from shoal.cli import session
from shoal.cli.errors import CliError
from shoal.cli.kinds import by_manifest
from shoal.cli.manifests import read_manifests
from shoal.cli.output import note, show
from shoal.cluster.api import APPLY_PATCH, KubeClient, Object, Resource, warnings_of
from shoal.cluster.errors import ApiError

_MANAGER = "shoal"


def apply_files(target: session.Target, files: Sequence[str]) -> None:
    """Apply all manifests; one that is refused does not keep the others back.

    Raises:
        CliError: some were refused.
    """
    manifests = read_manifests(files)
    session.run(target, lambda client: _apply_all(client, target.namespace, manifests))


async def _apply_all(client: KubeClient, namespace: str, manifests: list[tuple[str, Object]]) -> None:
    refused: list[str] = []
    for where, manifest in manifests:
        try:
            resource = await by_manifest(client, manifest)
            outcome = await _apply(client, resource, namespace, manifest)
        except (ApiError, CliError) as error:
            message = session.explain(error) if isinstance(error, ApiError) else str(error)
            refused.append(f"{where}: {manifest['kind']} {manifest['metadata']['name']}: {message}")
        else:
            show(f"{full_name(resource, manifest['metadata']['name'])} {outcome}")
    for line in refused[:-1]:
        note(f"error: {line}")
    if refused:
        raise CliError(refused[-1])


def full_name(resource: Resource, name: str) -> str:
    """Such as `inferenceservice.serving.kserve.io/sklearn-mnist`."""
    kind = resource.kind.lower()
    return f"{kind}.{resource.group}/{name}" if resource.group else f"{kind}/{name}"


async def _apply(client: KubeClient, resource: Resource, namespace: str, manifest: Object) -> str:
    metadata = manifest["metadata"]
    inside = metadata.get("namespace") or namespace
    if resource.namespaced:
        manifest = {**manifest, "metadata": {**metadata, "namespace": inside}}
    before = await client.get(resource, inside, metadata["name"])
    response = await client.request(
        "PATCH",
        resource.path(inside, metadata["name"]),
        params={"fieldManager": _MANAGER, "force": "true", "fieldValidation": "Strict"},
        body=manifest,
        content_type=APPLY_PATCH,
    )
    for warning in warnings_of(response):
        note(f"warning: {warning}")
    after: Object = response.json()
    if before is None:
        return "created"
    return "configured" if _declared(before) != _declared(after) else "unchanged"


def _declared(item: Object) -> Object:
    """The object without what the server keeps: who manages which field, versions and status."""
    metadata = {
        k: v for k, v in item["metadata"].items() if k not in ("managedFields", "resourceVersion", "generation")
    }
    return {k: v for k, v in item.items() if k != "status"} | {"metadata": metadata}
